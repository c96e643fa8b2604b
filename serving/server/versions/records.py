"""What the manager knows of each model and version."""

from __future__ import annotations

import enum
import logging
from collections.abc import Collection
from dataclasses import dataclass

from serving.server.config import ModelSource
from serving.server.errors import Code
from serving.server.versions.version import ServedVersion

_LOG = logging.getLogger(__name__)

# Versions that have ended are still reported, but not for ever.
_KEPT_ENDED = 16


class State(enum.IntEnum):
    """State of a version, with TensorFlow Serving's numbers."""

    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


@dataclass(frozen=True, kw_only=True)
class VersionStatus:
    """State of a version, as it is reported.

    Attributes:
        number: the version.
        state: its state.
        code: OK, or why it could not be loaded.
        message: the same as text.
    """

    number: int
    state: State
    code: Code
    message: str


class VersionRecord:
    """A version that is or was aspired.

    Attributes:
        number: the version.
        state: its state.
        version: the loaded version, while there is one.
        failures: loads that failed in a row.
        retry_at: time of ``time.monotonic`` at which it is tried again.
    """

    def __init__(self, number: int):
        self.number = number
        self.state = State.START
        self.version: ServedVersion | None = None
        self.failures = 0
        self.retry_at = 0.0
        self._code = Code.OK
        self._message = ""

    def move(self, state: State, code: Code = Code.OK, message: str = "") -> None:
        """Sets the state and the error that goes with it."""
        self.state = state
        self._code = code
        self._message = message

    def status(self) -> VersionStatus:
        """Returns the state as it is reported."""
        return VersionStatus(
            number=self.number, state=self.state, code=self._code, message=self._message
        )


class ModelRecord:
    """A model and its versions.

    Attributes:
        source: where it comes from.
        versions: records by number.
    """

    def __init__(self, source: ModelSource):
        self.source = source
        self.versions: dict[int, VersionRecord] = {}
        self._warned = ""

    def is_due(self, number: int, now: float) -> bool:
        """Whether an aspired version is to be loaded now."""
        record = self.versions.get(number)
        if record is None:
            return True
        return record.state is State.END and now >= record.retry_at

    def loaded(self) -> list[VersionRecord]:
        """Returns the versions that hold a model."""
        return [record for record in self.versions.values() if record.version is not None]

    def surplus(self, aspired: set[int]) -> list[VersionRecord]:
        """Returns what is to be unloaded: never all, while nothing aspired is available."""
        available = {
            record.number for record in self.versions.values() if record.state is State.AVAILABLE
        }
        if not available & aspired:
            return []
        return [self.versions[number] for number in sorted(available - aspired)]

    def forget_old(self) -> None:
        """Drops the oldest of the versions that have ended."""
        ended = [number for number, record in self.versions.items() if record.state is State.END]
        for number in sorted(ended)[:-_KEPT_ENDED]:
            del self.versions[number]

    def kept(self) -> str:
        """Says what goes on serving."""
        numbers = sorted(record.number for record in self.loaded())
        if not numbers:
            return "no version serves"
        return f"version {', '.join(map(str, numbers))} keeps serving"

    def warn_of_missing(self, found: Collection[int]) -> None:
        """Warns of versions that the policy names and that are not among those found."""
        missing = sorted(set(self.source.policy.specific).difference(found))
        numbers = ", ".join(map(str, missing))
        self.warn_once(
            f"{self.source.path}: version {numbers} of servable {self.source.name} is asked for "
            f"and not there; {self.kept()}"
            if missing
            else ""
        )

    def warn_once(self, text: str) -> None:
        """Logs a warning unless it is the last one again; an empty one resets it."""
        if text and text != self._warned:
            _LOG.warning("%s", text)
        self._warned = text
