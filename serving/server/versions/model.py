"""One SavedModel, loaded with TensorFlow alone."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2

from serving.server.errors import Code, ServingError
from serving.server.signature import Arrays, Signature
from serving.server.versions.failures import code_of, reason_of
from serving.server.versions.sessions import Sessions

_LOG = logging.getLogger(__name__)


class Model:
    """A loaded SavedModel.

    It is run through a session, as TensorFlow Serving runs it: a call costs less than a concrete
    function's, the method names of the signatures are kept, and closing frees it.

    Attributes:
        signatures: what can be called.
        definitions: every signature as it was exported.
    """

    def __init__(self, path: Path, sessions: Sessions):
        """Reads the graph; ``fill`` makes the model ready to run.

        Args:
            path: folder of the SavedModel.
            sessions: gives it a session.

        Raises:
            LoadError: it cannot be loaded.
        """
        self._sessions = sessions
        self._start = time.monotonic()
        self._opened = sessions.open(path)
        try:
            self.definitions: dict[str, meta_graph_pb2.SignatureDef] = dict(
                self._opened.meta.signature_def
            )
            self.signatures = {
                name: Signature(name, definition)
                for name, definition in self.definitions.items()
                if all(info.name for info in definition.inputs.values())
            }
            self._calls = {
                name: self._make_call(signature)
                for name, signature in self.signatures.items()
                if signature.inputs and signature.outputs
            }
        except BaseException:
            self.close()
            raise

    def fill(self) -> None:
        """Reads the weights and tables.

        Raises:
            LoadError: they cannot be read.
        """
        self._sessions.fill(self._opened)
        _LOG.debug("loaded %s in %.2f s", self._opened.path, time.monotonic() - self._start)

    def run(self, signature: Signature, inputs: Mapping[str, np.ndarray]) -> Arrays:
        """Runs a signature.

        Args:
            signature: one of ``signatures``.
            inputs: arrays by name, as ``Signature.complete`` returns them.

        Returns:
            All outputs by name.

        Raises:
            ServingError: TensorFlow refused the call.
        """
        call = self._calls.get(signature.name)
        if call is None:
            raise ServingError(
                Code.INVALID_ARGUMENT, f"signature {signature.name!r} has no inputs or outputs"
            )
        try:
            values = call(*(inputs[key] for key in signature.inputs))
        except tf.errors.OpError as error:
            raise ServingError(code_of(error), reason_of(error.message)) from error
        except UnicodeDecodeError as error:
            # The message quotes bytes of the request.
            text = error.object.decode("utf-8", "backslashreplace")
            raise ServingError(Code.INVALID_ARGUMENT, reason_of(text)) from error
        except (TypeError, ValueError) as error:
            raise ServingError(Code.INVALID_ARGUMENT, reason_of(str(error))) from error
        return dict(zip(signature.outputs, map(_as_array, values), strict=True))

    def close(self) -> None:
        """Frees the model; it must not be run any more."""
        self._calls = {}
        self._sessions.close(self._opened)

    def _make_call(self, signature: Signature) -> Callable[..., list[np.ndarray | bytes]]:
        return self._opened.session.make_callable(
            [spec.tensor for spec in signature.outputs.values()],
            feed_list=[spec.tensor for spec in signature.inputs.values()],
        )


def _as_array(value: np.ndarray | bytes) -> np.ndarray:
    # A text without a shape comes as bytes, everything else as an array or a number of numpy.
    return np.array(value, np.object_) if isinstance(value, bytes) else value
