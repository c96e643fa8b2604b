"""Threads to call from."""

from __future__ import annotations

from concurrent import futures
from typing import Any

import pytest


@pytest.fixture
def pool() -> Any:
    with futures.ThreadPoolExecutor(64) as executor:
        yield executor
