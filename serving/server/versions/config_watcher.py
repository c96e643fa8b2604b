"""Follows ``models.config``: what it says from one look to the next is what is served."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

from schemas.loading import ConfigError
from serving.server.errors import ServingError
from serving.server.versions.manager import Manager
from serving.server.versions.models_config import read_models_config

_LOG = logging.getLogger(__name__)


class ConfigWatcher:
    """Looks at a file every few seconds, and hands a new content to the manager.

    A file that cannot be served, such as one half edited or with a label on a version that is not
    available yet, changes nothing; it is tried again at every look, and reported once.
    """

    def __init__(self, path: Path, manager: Manager, seconds: float):
        """Makes a watcher.

        Args:
            path: the file.
            manager: serves its models.
            seconds: time between two looks; also how long a look waits for new models.
        """
        self._path = path
        self._manager = manager
        self._seconds = seconds
        self._served: bytes | None = None
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
            content = self._path.read_bytes()
            if content == self._served:
                return
            self._manager.reload(read_models_config(self._path), self._seconds)
        except (OSError, ConfigError, ServingError) as error:
            if not self._stop.is_set():
                self._report(str(error))
            return
        self._served, self._reported = content, ""
        _LOG.info("serving what %s says now", self._path)

    def _watch(self) -> None:
        while not self._stop.wait(self._seconds):
            self.look()

    def _report(self, text: str) -> None:
        if text != self._reported:
            _LOG.error("%s: %s; it is tried again every %g s", self._path, text, self._seconds)
        self._reported = text
