"""A manager over folders of a test, with stand-ins for loaded models."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from serving.server.config import ModelSource, VersionsConfig
from serving.server.metrics import ServingMetrics
from serving.server.versions.manager import Manager


class FakeVersion:
    """What the manager needs of a loaded version."""

    def __init__(self, name: str, number: int):
        self.name = name
        self.number = number
        self.calls = 0
        self.closed = False

    def acquire(self) -> bool:
        if self.closed:
            return False
        self.calls += 1
        return True

    def close(self, drain_seconds: float) -> bool:
        self.closed = True
        return True


class Loader:
    """Loads stand-ins; fails for the numbers in ``broken`` and waits at gates."""

    def __init__(self) -> None:
        self.loaded: list[FakeVersion] = []
        self.attempts: list[tuple[int, float]] = []
        self.broken: dict[int, Exception] = {}
        self.gate: threading.Event | None = None

    def __call__(self, name: str, number: int, path: Path) -> Any:
        self.attempts.append((number, time.monotonic()))
        if self.gate is not None:
            assert self.gate.wait(20)
        if number in self.broken:
            raise self.broken[number]
        version = FakeVersion(name, number)
        self.loaded.append(version)
        return version


class Managed:
    """A manager over folders of a test."""

    def __init__(self, root: Path):
        self.root = root
        self.loader = Loader()
        self.metrics = ServingMetrics()
        self._managers: list[Manager] = []

    def folder(self, name: str, *numbers: int | str) -> Path:
        for number in numbers:
            (self.root / name / str(number)).mkdir(parents=True)
        return self.root / name

    def start(self, *sources: ModelSource, **options: Any) -> Manager:
        values: dict[str, Any] = {"poll_seconds": 0.05, "retry_seconds": 0.05, **options}
        manager = Manager(sources, VersionsConfig(**values), self.loader, self.metrics)
        manager.start()
        self._managers.append(manager)
        return manager

    def stop(self) -> None:
        if self.loader.gate is not None:
            self.loader.gate.set()
        for manager in self._managers:
            manager.close()


def source(path: Path, name: str = "tiny", **options: Any) -> ModelSource:
    return ModelSource(name=name, path=str(path), **options)


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def states(manager: Manager, name: str = "tiny") -> dict[int, str]:
    return {status.number: status.state.name for status in manager.status(name)}


def serving(manager: Manager, name: str = "tiny") -> list[int]:
    return sorted(number for number, state in states(manager, name).items() if state == "AVAILABLE")
