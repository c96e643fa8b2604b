"""Finds the versions of the models, loads what their policies ask for, and lets go of the rest.

All loading and freeing is done by one thread. Requests look versions up in a table that this
thread replaces as a whole, so that a swap is atomic and a lookup takes no lock of the manager.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from serving.server.config import ModelSource, VersionsConfig
from serving.server.errors import Code, ServingError, invalid, stopping
from serving.server.metrics import ServingMetrics
from serving.server.versions.failures import LoadError
from serving.server.versions.folders import aspired_versions, find_versions
from serving.server.versions.records import ModelRecord, State, VersionRecord, VersionStatus
from serving.server.versions.version import ServedVersion

_LOG = logging.getLogger(__name__)

# A look at the folders is over in less; a load is not waited for.
_LAST_LOOK_SECONDS = 1.0

Load = Callable[[str, int, Path], ServedVersion]


class Manager:
    """Keeps the aspired versions of every model loaded."""

    def __init__(
        self,
        sources: Sequence[ModelSource],
        config: VersionsConfig,
        load: Load,
        metrics: ServingMetrics,
        *,
        tidy: Callable[[], None] = lambda: None,
    ):
        """Makes a manager that does nothing until ``start``.

        Args:
            sources: the models.
            config: how often to look, when to try again.
            load: loads and warms a version; raises ``LoadError`` if it cannot.
            metrics: where states and failures are counted.
            tidy: called after each look at the folders.
        """
        self._tidy = tidy
        self._config = config
        self._load = load
        self._metrics = metrics
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._models = {source.name: ModelRecord(source) for source in sources}
        self._leaving: list[ModelRecord] = []
        self._serving: Mapping[str, Mapping[int, ServedVersion]] = {}
        self._stop = threading.Event()
        self._poll_now = threading.Event()
        self._looks = 0
        self._thread = threading.Thread(target=self._watch, name="versions", daemon=True)

    def start(self) -> None:
        """Starts to look for versions."""
        self._thread.start()

    def acquire(
        self, name: str, number: int | None = None, label: str | None = None
    ) -> ServedVersion:
        """Finds a version and counts a call in; the caller must ``release`` it.

        Args:
            name: the model.
            number: a version; null for the newest available one.
            label: a label instead of a version.

        Raises:
            ServingError: there is no such model, version or label.
        """
        if not name:
            raise invalid("ModelSpec has no name specified.")
        if label is not None:
            number = self.labelled(name, label)
        while True:
            versions = self._serving.get(name) or {}
            if number is None:
                chosen = max(versions, default=None)
                wanted = f"Latest({name})"
            else:
                chosen = number if number in versions else None
                wanted = f"Specific({name}, {number})"
            if chosen is None:
                raise ServingError(Code.NOT_FOUND, f"Servable not found for request: {wanted}")
            if versions[chosen].acquire():
                return versions[chosen]
            # It was let go between the lookup and now: look at the new table.

    def knows(self, name: str) -> bool:
        """Whether a model of this name is configured."""
        return name in self._models

    def serves(self, name: str) -> bool:
        """Whether a model has a version that serves."""
        return bool(self._serving.get(name))

    def status(self, name: str, number: int | None = None) -> list[VersionStatus]:
        """Returns the state of the versions of a model, newest first, or of one of them.

        Raises:
            ServingError: there is no such model or version.
        """
        with self._lock:
            model = self._models.get(name)
            records = [] if model is None else model.reported()
            found = [record.status() for record in records if number in (None, record.number)]
        if not found and number is not None:
            raise ServingError(Code.NOT_FOUND, f"Could not find version {number} of model {name}")
        if not found:
            raise ServingError(Code.NOT_FOUND, f"Could not find any versions of model {name}")
        return sorted(found, key=lambda status: status.number, reverse=True)

    def labelled(self, name: str, label: str) -> int:
        """Returns the version that a label stands for.

        Raises:
            ServingError: the label is not known.
        """
        model = self._models.get(name)
        # As TensorFlow Serving answers for a model that it does not know, too.
        if model is None or label not in model.source.labels:
            raise invalid(f"Unrecognized servable version label: {label}")
        return model.source.labels[label]

    def ready(self) -> bool:
        """Whether every model has a version that serves."""
        with self._lock:
            return all(self._serving.get(name) for name in self._models)

    def wait_until_ready(self, seconds: float) -> bool:
        """Waits until every model has a version that serves; returns whether that is so."""
        with self._changed:
            return self._wait_for(
                lambda: all(self._serving.get(name) for name in self._models), seconds
            )

    def wait_for_look(self, seconds: float) -> bool:
        """Waits until the folders were looked at once more, and what was due was loaded."""
        with self._changed:
            target = self._looks + 2
            self._poll_now.set()
            return self._wait_for(lambda: self._looks >= target, seconds)

    def check_labels(self) -> None:
        """Checks that every label stands for an available version.

        Raises:
            ServingError: one does not, and the configuration does not allow that.
        """
        if self._config.allow_labels_for_unavailable:
            return
        with self._lock:
            for model in self._models.values():
                self._check_labels(model.source, model.source.labels)

    def reload(self, sources: Sequence[ModelSource], seconds: float) -> None:
        """Replaces the configured models, and waits for the new ones to serve.

        Args:
            sources: all models from now on.
            seconds: how long to wait.

        Raises:
            ServingError: a label stands for a version that is not available; nothing was
                changed. Or a new model did not become available in time.
        """
        with self._changed:
            for source in sources:
                self._check_labels(source, self._labels_to_check(source))
            models, left = {}, dict(self._models)
            for source in sources:
                known = left.pop(source.name, None)
                if known is not None and known.source.path == source.path:
                    known.source = source
                    models[source.name] = known
                else:
                    models[source.name] = ModelRecord(source, replaces=known)
            for model in left.values():
                self._leaving.extend(model.with_replaced())
            self._models = models
            self._poll_now.set()
            asked = [models[source.name] for source in sources]
            ready = self._wait_for(lambda: all(model.available() for model in asked), seconds)
            missing = [model.source.name for model in asked if not model.available()]
        if not ready and self._stop.is_set():
            raise stopping()
        if not ready:
            raise ServingError(
                Code.UNKNOWN, f"Some models did not become available: {{{', '.join(missing)}}}"
            )

    def _labels_to_check(self, source: ModelSource) -> Mapping[str, int]:
        """Returns the labels that must stand for available versions."""
        if not self._config.allow_labels_for_unavailable:
            return source.labels
        known = self._models.get(source.name)
        used = {} if known is None else known.source.labels
        # Callers use this label now; they must not be sent to what is not there yet.
        return {
            label: number
            for label, number in source.labels.items()
            if used.get(label, number) != number
        }

    def _check_labels(self, source: ModelSource, labels: Mapping[str, int]) -> None:
        serving = self._serving.get(source.name) or {}
        for label, number in labels.items():
            if number not in serving:
                raise ServingError(
                    Code.FAILED_PRECONDITION,
                    f"Request to assign label {label!r} to version {number} of model "
                    f"{source.name}, which is not currently available for inference; for a label "
                    "that is not in use yet, versions.allow_labels_for_unavailable=true allows it",
                )

    def stop(self) -> None:
        """Begins no more loads, and ends every wait; what serves goes on."""
        self._stop.set()
        self._poll_now.set()
        with self._changed:
            self._changed.notify_all()

    def close(self) -> bool:
        """Stops, and frees every version; calls have had their time to end.

        Returns:
            Whether nothing is left to be done; if not, a load is under way, which cannot be
            interrupted. Its version is freed when it ends.
        """
        self.stop()
        if self._thread.is_alive():
            self._thread.join(_LAST_LOOK_SECONDS)
        with self._changed:
            models = [each for model in self._models.values() for each in model.with_replaced()]
            records = [record for model in (*models, *self._leaving) for record in model.loaded()]
            self._serving = {}
        for record in records:
            record.free(drain_seconds=0.0)
        return not self._thread.is_alive()

    def _wait_for(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Waits for a condition as long as this manager works; the lock is held."""
        self._changed.wait_for(lambda: self._stop.is_set() or condition(), seconds)
        return condition()

    def _watch(self) -> None:
        while not self._stop.is_set():
            self._poll_now.clear()
            try:
                self._look()
                self._tidy()
            except Exception:
                # The thread must outlive whatever a file system comes up with.
                _LOG.exception("looking for versions failed; the loaded ones keep serving")
            with self._changed:
                self._looks += 1
                self._changed.notify_all()
            self._poll_now.wait(self._config.poll_seconds)

    def _look(self) -> None:
        with self._lock:
            models = list(self._models.values())
        for model in models:
            self._look_at(model)
        with self._lock:
            for model in self._models.values():
                self._leaving.extend(model.take_replaced())
            leaving, self._leaving = self._leaving, []
        for model in leaving:
            for record in model.loaded():
                self._unload(model, record)

    def _look_at(self, model: ModelRecord) -> None:
        source = model.source
        try:
            found = find_versions(Path(source.path))
        except OSError as error:
            model.warn_once(f"{source.path}: {error.strerror or error}; {model.kept()}")
            return
        if not found:
            # A folder that was emptied by mistake must not take a good model down.
            model.warn_once(
                f"No versions of servable {source.name} found under base path "
                f"{source.path}; {model.kept()}"
            )
            return
        model.warn_of_missing(found)
        aspired = aspired_versions(found, source.policy)
        for number in sorted(aspired, reverse=True):
            if self._stop.is_set():
                return
            self._bring_up_if_due(model, number, found[number])
        if source.policy.latest is not None:
            # After a start no good version is there yet that would keep serving.
            for number in sorted(found.keys() - aspired, reverse=True):
                if self._stop.is_set() or model.serving():
                    break
                self._bring_up_if_due(model, number, found[number])
        with self._lock:
            surplus = model.surplus(aspired)
        for record in surplus:
            self._unload(model, record)

    def _bring_up_if_due(self, model: ModelRecord, number: int, path: Path) -> None:
        with self._lock:
            if not model.is_due(number, time.monotonic()):
                return
        name = model.source.name
        record = self._set(model, number, State.LOADING)
        start = time.monotonic()
        try:
            version = self._load(name, number, path)
        except LoadError as error:
            self._failed(model, record, error)
            return
        except Exception as error:
            _LOG.exception("%s version %d failed to load", name, number)
            self._failed(
                model, record, LoadError(Code.INTERNAL, f"{type(error).__name__}: {error}")
            )
            return
        with self._changed:
            stopped = self._stop.is_set()
            if not stopped:
                record.version = version
                record.failures = 0
                record.move(State.AVAILABLE)
                self._publish()
        if stopped:
            version.close(0.0)
            return
        self._metrics.states.put(name, str(number), value=State.AVAILABLE)
        _LOG.info("serving %s version %d, loaded in %.1f s", name, number, time.monotonic() - start)

    def _failed(self, model: ModelRecord, record: VersionRecord, error: LoadError) -> None:
        name = model.source.name
        with self._lock:
            record.failures += 1
            wait = min(
                self._config.retry_seconds * 2 ** (record.failures - 1),
                self._config.max_retry_seconds,
            )
            record.retry_at = time.monotonic() + wait
            record.move(State.END, error.code, str(error))
        self._metrics.load_failures.add(name, str(record.number))
        self._metrics.states.put(name, str(record.number), value=State.END)
        _LOG.error(
            "%s version %d failed to load: %s: %s; next try in %g s; %s",
            name,
            record.number,
            error.code.name,
            error,
            wait,
            model.kept(),
        )

    def _unload(self, model: ModelRecord, record: VersionRecord) -> None:
        with self._changed:
            record.move(State.UNLOADING)
            self._publish()
        name = model.source.name
        # The name and number may be those of a version in another folder now, whose state is not
        # this one's.
        current = self._models.get(name, model)
        others = set() if current is model else set(current.versions)
        if record.number not in others:
            self._metrics.states.put(name, str(record.number), value=State.UNLOADING)
        record.free(drain_seconds=self._config.drain_seconds)
        with self._lock:
            record.move(State.END)
            forgotten = model.forget_old()
        for number in {record.number, *forgotten} - others:
            self._metrics.states.drop(name, str(number))
        for number in set(forgotten) - others:
            self._metrics.load_failures.drop(name, str(number))
        _LOG.info("let go of %s version %d", name, record.number)

    def _set(self, model: ModelRecord, number: int, state: State) -> VersionRecord:
        with self._lock:
            record = model.versions.setdefault(number, VersionRecord(number))
            record.move(state)
        self._metrics.states.put(model.source.name, str(number), value=state)
        return record

    def _publish(self) -> None:
        """Replaces the table of serving versions; the lock is held."""
        self._serving = {name: model.serving() for name, model in self._models.items()}
        self._changed.notify_all()
