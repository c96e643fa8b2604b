"""A server of one tiny model for each file of tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serving.servers import Running, running
from tests.serving.tiny_models import write_version


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    write_version(folder, 1, factor=2.0)
    return folder


@pytest.fixture(scope="module")
def server(versions: Path) -> Iterator[Running]:
    with running(versions) as found:
        yield found
