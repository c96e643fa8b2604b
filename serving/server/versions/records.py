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

    def free(self, *, drain_seconds: float) -> None:
        """Lets the calls of the loaded version end, then frees it, if there is one."""
        version, self.version = self.version, None
        if version is not None:
            version.close(drain_seconds)

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

    def __init__(self, source: ModelSource, *, replaces: ModelRecord | None = None):
        """Makes a record without versions.

        Args:
            source: where the model comes from.
            replaces: the model of this name in another folder, which serves until a version of
                this one does.
        """
        self.source = source
        self.versions: dict[int, VersionRecord] = {}
        self._replaces = replaces
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

    def available(self) -> dict[int, ServedVersion]:
        """Returns the versions that can be called, by number."""
        return {
            record.number: record.version
            for record in self.versions.values()
            if record.state is State.AVAILABLE and record.version is not None
        }

    def serving(self) -> dict[int, ServedVersion]:
        """Returns the versions that calls go to, by number."""
        return next((each.available() for each in self.with_replaced() if each.available()), {})

    def reported(self) -> list[VersionRecord]:
        """Returns the versions whose state is told: also those of a replaced model that serve."""
        before = [] if self._replaces is None else self._replaces.reported()
        return [
            *self.versions.values(),
            *(
                record
                for record in before
                if record.state is State.AVAILABLE and record.number not in self.versions
            ),
        ]

    def with_replaced(self) -> list[ModelRecord]:
        """Returns this model and those that it replaces, which may still hold versions."""
        return [self, *(self._replaces.with_replaced() if self._replaces else ())]

    def take_replaced(self) -> list[ModelRecord]:
        """Returns the models that this one no longer needs, as soon as it serves itself."""
        if self._replaces is None or not self.available():
            return []
        taken, self._replaces = self._replaces.with_replaced(), None
        return taken

    def surplus(self, aspired: set[int]) -> list[VersionRecord]:
        """Returns what is to be unloaded: never all, while nothing aspired is available."""
        available = set(self.available())
        if not available & aspired:
            return []
        return [self.versions[number] for number in sorted(available - aspired)]

    def forget_old(self) -> list[int]:
        """Drops the oldest of the versions that have ended; returns their numbers."""
        ended = [number for number, record in self.versions.items() if record.state is State.END]
        oldest = sorted(ended)[:-_KEPT_ENDED]
        for number in oldest:
            del self.versions[number]
        return oldest

    def kept(self) -> str:
        """Says what goes on serving."""
        for model in self.with_replaced():
            if model.available():
                numbers = ", ".join(map(str, sorted(model.available())))
                of = "" if model is self else f" of {model.source.path}"
                return f"version {numbers}{of} keeps serving"
        return "no version serves"

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
