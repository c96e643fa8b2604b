"""Threads to call from, and a manager."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import pytest

from tests.serving.server.versions.managed import Managed


@pytest.fixture
def pool() -> Any:
    with futures.ThreadPoolExecutor(64) as executor:
        yield executor


@pytest.fixture
def managed(tmp_path: Path) -> Iterator[Managed]:
    found = Managed(tmp_path)
    yield found
    found.stop()
