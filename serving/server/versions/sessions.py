"""The sessions that SavedModels run in.

Before TensorFlow runs a graph for the first time it imports it, which holds Python's lock, and
optimises it once for each signature, which takes seconds of computing. Nothing of that depends on
the weights. So versions that differ in their weights only share one imported graph, and the
session of a version that is let go waits, without its weights, for the next version.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow.core.protobuf import config_pb2, meta_graph_pb2

from serving.server.config import RuntimeConfig
from serving.server.errors import Code
from serving.server.versions.failures import LoadError, code_of, reason_of
from serving.server.versions.graphs import TAG, Graph, fingerprint, import_graph

_LOG = logging.getLogger(__name__)


@dataclass(kw_only=True, eq=False)
class Opened:
    """A session of a version.

    Attributes:
        session: the session.
        meta: what was exported, without the graph.
        path: folder of the version.
        key: digest of the shared graph; null if the graph is this version's alone.
    """

    session: Any
    meta: meta_graph_pb2.MetaGraphDef
    path: Path
    key: bytes | None


@dataclass(kw_only=True)
class _Shared:
    """A graph, the sessions that use it, and one that nobody uses since a moment."""

    graph: Graph
    users: int = 0
    spare: Any = None
    since: float = 0.0


class Sessions:
    """Opens and closes the sessions of versions."""

    def __init__(self, runtime: RuntimeConfig, *, spare_seconds: float = 0.0):
        """Makes an empty set.

        Args:
            runtime: threads of TensorFlow.
            spare_seconds: how long a session without a version is kept for the next one; 0 keeps
                none.
        """
        self._config = config_pb2.ConfigProto(
            intra_op_parallelism_threads=runtime.intra_op_threads,
            inter_op_parallelism_threads=runtime.inter_op_threads,
        )
        self._spare_seconds = spare_seconds
        self._lock = threading.Lock()
        self._shared: dict[bytes, _Shared] = {}
        # The loader says on every load that it is deprecated.
        tf.get_logger().setLevel(logging.ERROR)

    def open(self, path: Path) -> Opened:
        """Opens a session for a version; ``fill`` makes it ready to run.

        Args:
            path: folder of the version.

        Raises:
            LoadError: it cannot be loaded.
        """
        key = fingerprint(path)
        try:
            opened = None if key is None else self._open_shared(path, key)
        except Exception as error:
            raise _load_error(error) from error
        return opened or self._open_alone(path)

    def fill(self, opened: Opened) -> None:
        """Reads the weights and tables of a version.

        Raises:
            LoadError: they cannot be read; the session can only be closed.
        """
        if opened.key is None:
            return
        with self._lock:
            graph = self._shared[opened.key].graph
        try:
            graph.fill(opened.session, opened.path)
        except Exception as error:
            self.close(opened, reuse=False)
            raise _load_error(error) from error

    def close(self, opened: Opened, *, reuse: bool = True) -> None:
        """Closes a session, or keeps it for the next version; it must not be run any more.

        Args:
            opened: the session; closing it again does nothing.
            reuse: whether it is in order.
        """
        session, opened.session = opened.session, None
        if session is None:
            return
        if opened.key is None:
            session.close()
            del session
            # A graph and its operations refer to each other.
            gc.collect()
            return
        with self._lock:
            shared = self._shared[opened.key]
            shared.users -= 1
            reuse = (
                reuse
                and self._spare_seconds > 0
                and shared.users > 0
                and shared.spare is None
                and shared.graph.keeps_nothing
            )
        if reuse:
            with contextlib.suppress(tf.errors.OpError):
                session.run(session.graph.as_graph_element(shared.graph.forget))
                with self._lock:
                    if shared.users and shared.spare is None:
                        shared.spare, shared.since, session = session, time.monotonic(), None
        if session is not None:
            session.close()
        self._forget_unused(opened.key)

    def close_old_spares(self) -> None:
        """Closes the sessions that waited for a version for too long."""
        oldest = time.monotonic() - self._spare_seconds
        found = []
        with self._lock:
            for shared in self._shared.values():
                if shared.spare is not None and shared.since < oldest:
                    found.append(shared.spare)
                    shared.spare = None
        for session in found:
            session.close()

    def _open_shared(self, path: Path, key: bytes) -> Opened | None:
        with self._lock:
            shared = self._shared.get(key)
            if shared is not None:
                shared.users += 1
        if shared is None:
            graph = import_graph(path)
            if graph is None:
                return None
            with self._lock:
                shared = self._shared.setdefault(key, _Shared(graph=graph))
                shared.users += 1
        with self._lock:
            session, shared.spare = shared.spare, None
        if session is None:
            session = tf.compat.v1.Session(graph=shared.graph.graph, config=self._config)
        return Opened(session=session, meta=shared.graph.meta, path=path, key=key)

    def _open_alone(self, path: Path) -> Opened:
        """Loads what is not as TensorFlow 2 exports it; TensorFlow says what is wrong with it."""
        graph = tf.Graph()
        session = tf.compat.v1.Session(graph=graph, config=self._config)
        try:
            with graph.as_default():
                meta = tf.compat.v1.saved_model.load(session, [TAG], str(path))
        except Exception as error:
            session.close()
            raise _load_error(error) from error
        return Opened(session=session, meta=meta, path=path, key=None)

    def _forget_unused(self, key: bytes) -> None:
        with self._lock:
            shared = self._shared.get(key)
            if shared is None or shared.users:
                return
            del self._shared[key]
        if shared.spare is not None:
            shared.spare.close()
        del shared
        # A graph and its operations refer to each other.
        gc.collect()


def _load_error(error: Exception) -> LoadError:
    if isinstance(error, tf.errors.OpError):
        return LoadError(code_of(error), reason_of(error.message))
    if isinstance(error, OSError):
        return LoadError(Code.NOT_FOUND, reason_of(str(error)))
    # Whatever a broken file makes TensorFlow or protobuf raise.
    return LoadError(Code.INTERNAL, f"{type(error).__name__}: {reason_of(str(error))}")
