"""One SavedModel, loaded with TensorFlow alone."""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2, meta_graph_pb2

from serving.server.config import RuntimeConfig
from serving.server.errors import Code, ServingError
from serving.server.signature import Arrays, Signature

_LOG = logging.getLogger(__name__)
_SERVE = "serve"
# How lines of TensorFlow's messages begin that tell of the graph.
_NO_REASON = ("Graph execution error", "Detected at node", "<stack traces", "Node: ", "\t [[")


class LoadError(Exception):
    """A SavedModel that cannot be loaded.

    Attributes:
        code: status code of the reason.
    """

    def __init__(self, code: Code, message: str):
        super().__init__(message)
        self.code = code


class Model:
    """A loaded SavedModel.

    It is run through a session, as TensorFlow Serving runs it: a call costs less than a concrete
    function's, the method names of the signatures are kept, and closing frees it.

    Attributes:
        signatures: what can be called.
        definitions: every signature as it was exported.
    """

    def __init__(self, path: Path, runtime: RuntimeConfig):
        """Loads the model.

        Raises:
            LoadError: it cannot be loaded.
        """
        # The loader says on every load that it is deprecated.
        tf.get_logger().setLevel(logging.ERROR)
        graph = tf.Graph()
        options = config_pb2.ConfigProto(
            intra_op_parallelism_threads=runtime.intra_op_threads,
            inter_op_parallelism_threads=runtime.inter_op_threads,
        )
        self._session = tf.compat.v1.Session(graph=graph, config=options)
        try:
            meta = _load(self._session, graph, path)
            self.definitions: dict[str, meta_graph_pb2.SignatureDef] = dict(meta.signature_def)
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
            raise ServingError(_code(error), _reason(error.message)) from error
        except UnicodeDecodeError as error:
            # The message quotes bytes of the request.
            text = error.object.decode("utf-8", "backslashreplace")
            raise ServingError(Code.INVALID_ARGUMENT, _reason(text)) from error
        except (TypeError, ValueError) as error:
            raise ServingError(Code.INVALID_ARGUMENT, _reason(str(error))) from error
        return dict(zip(signature.outputs, values, strict=True))

    def close(self) -> None:
        """Frees the model; it must not be run any more."""
        self._calls = {}
        self._session.close()
        # A graph and its operations refer to each other.
        gc.collect()

    def _make_call(self, signature: Signature) -> Callable[..., list[np.ndarray]]:
        return self._session.make_callable(
            [spec.tensor for spec in signature.outputs.values()],
            feed_list=[spec.tensor for spec in signature.inputs.values()],
        )


def _load(session: Any, graph: Any, path: Path) -> meta_graph_pb2.MetaGraphDef:
    start = time.monotonic()
    try:
        with graph.as_default():
            meta = tf.compat.v1.saved_model.load(session, [_SERVE], str(path))
    except tf.errors.OpError as error:
        raise LoadError(_code(error), _reason(error.message)) from error
    except OSError as error:
        raise LoadError(Code.NOT_FOUND, _reason(str(error))) from error
    except Exception as error:
        # Whatever a broken file makes TensorFlow or protobuf raise.
        text = f"{type(error).__name__}: {_reason(str(error))}"
        raise LoadError(Code.INTERNAL, text) from error
    _LOG.debug("loaded %s in %.2f s", path, time.monotonic() - start)
    return meta


def _code(error: tf.errors.OpError) -> Code:
    try:
        return Code(error.error_code)
    except ValueError:
        return Code.UNKNOWN


def _reason(text: str) -> str:
    """Returns what went wrong, without where in the graph it did."""
    for line in text.splitlines():
        if line.strip() and not line.startswith(_NO_REASON):
            return line.strip()
    return text.strip()
