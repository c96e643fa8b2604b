"""A version to serve, and the server with small bounds that limits and hostile clients share.

Other files here have a server of their own under the same names.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serving.server.bounded import LIMITS
from tests.serving.servers import Running, running
from tests.serving.tiny_models import write_version


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    write_version(folder, 1)
    return folder


@pytest.fixture(scope="module")
def server(versions: Path) -> Iterator[Running]:
    with running(versions, limits=LIMITS) as found:
        yield found
