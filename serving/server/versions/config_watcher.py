"""Follows ``models.config``: what it says from one look to the next is what is served."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from pathlib import Path

from schemas.loading import ConfigError
from serving.server.config import ModelSource
from serving.server.errors import ServingError
from serving.server.versions.manager import Manager
from serving.server.versions.models_config import read_models_config

_LOG = logging.getLogger(__name__)


class ConfigWatcher:
    """Looks at a file every few seconds, and hands other models to the manager.

    A file that cannot be served, such as one half edited or with a label on a version that is not
    available yet, changes nothing; it is tried again at every look, and reported once.
    """

    def __init__(
        self, path: Path, manager: Manager, seconds: float, *, served: Sequence[ModelSource]
    ):
        """Makes a watcher.

        Args:
            path: the file.
            manager: serves its models.
            seconds: time between two looks; also how long a look waits for new models.
            served: the models that the manager has already.
        """
        self._path = path
        self._manager = manager
        self._seconds = seconds
        self._served: tuple[ModelSource, ...] | None = tuple(served)
        self._reported = ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="models-config", daemon=True)

    def start(self) -> None:
        """Starts to look."""
        self._thread.start()

    def close(self) -> None:
        """Stops looking; a look that waits for new models ends when the manager stops."""
        self._stop.set()

    def look(self) -> None:
        """Reads the file, and has its models served if it changed."""
        try:
            sources = read_models_config(self._path)
            if sources == self._served:
                self._reported = ""
                return
            # A reload that fails may have changed the models all the same: what was served before
            # must count as new when the file says it again.
            self._served = None
            self._manager.reload(sources, self._seconds)
        except (ConfigError, ServingError) as error:
            if not self._stop.is_set():
                self._report(str(error))
            return
        self._served, self._reported = sources, ""
        _LOG.info("serving what %s says now", self._path)

    def _watch(self) -> None:
        while not self._stop.wait(self._seconds):
            self.look()

    def _report(self, text: str) -> None:
        if text != self._reported:
            _LOG.error("%s: %s; it is tried again every %g s", self._path, text, self._seconds)
        self._reported = text
