"""Scores requests with TensorFlow and nothing else: a program of its own, run by its path.

    python -I reference.py JOB RESULT

It is the canary's fresh process: none of Lengthwise's packages can be imported in it, and what
their libraries register with TensorFlow is not there. It reads ``JOB`` and writes ``RESULT``, which
are JSON with each tensor as a serialized ``TensorProto`` in base64:

- ``JOB``: ``model``, the SavedModel's folder; ``requests``, pairs of a signature's name and its
  tensors by input name; ``blocked``, top-level packages that must not be imported.
- ``RESULT``: ``unknown_ops`` and ``python_ops`` of the graph; ``load_error``, the reason if the
  model cannot be loaded; ``answers``, for each request its tensors by output name, or the text of
  the error.
"""

from __future__ import annotations

import base64
import gc
import json
import os
import sys
from collections.abc import Iterator, Sequence
from importlib.abc import MetaPathFinder
from typing import Any

# TensorFlow knows these, but what they call lives in the Python process that exported the model.
PYTHON_OPS = frozenset({"EagerPyFunc", "PyFunc", "PyFuncStateless"})
_SERVE = "serve"
# How lines of TensorFlow's messages begin that tell of the graph.
_NO_REASON = ("Graph execution error", "Detected at node", "<stack traces", "Node: ", "[[")


class _Refusal(MetaPathFinder):
    """Refuses to import some packages, wherever they are installed."""

    def __init__(self, packages: Sequence[str]):
        self._packages = frozenset(packages)

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> None:
        """Raises if the module is of a package that is refused."""
        if fullname.partition(".")[0] in self._packages:
            raise ImportError(f"{fullname} must not be needed to load a model")


def main(job_path: str, result_path: str) -> None:
    """Reads a job and writes its result, under a temporary name first."""
    with open(job_path, encoding="utf-8") as file:
        job = json.load(file)
    sys.meta_path.insert(0, _Refusal(job["blocked"]))
    result = _work(job["model"], job["requests"])
    temporary = f"{result_path}.partial"
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump(result, file)
    os.replace(temporary, result_path)


def _work(model: str, requests: Sequence[tuple[str, dict[str, str]]]) -> dict[str, Any]:
    result: dict[str, Any] = {
        "unknown_ops": [],
        "python_ops": [],
        "load_error": None,
        "answers": [],
    }
    # Nothing of TensorFlow's modules is garbage; looking for it takes a quarter of their import.
    gc.disable()
    import tensorflow as tf

    gc.freeze()
    gc.enable()
    try:
        result["unknown_ops"], result["python_ops"] = _foreign_ops(model)
        loaded = tf.saved_model.load(model, tags=[_SERVE])
    # A broken file makes TensorFlow and protobuf raise all kinds of errors.
    except Exception as error:
        result["load_error"] = _text(error)
        return result
    for signature, inputs in requests:
        try:
            tensors = {name: _decode(text) for name, text in inputs.items()}
            outputs = loaded.signatures[signature](**tensors)
            result["answers"].append({name: _encode(value) for name, value in outputs.items()})
        except Exception as error:
            result["answers"].append(_text(error))
    return result


def _decode(text: str) -> Any:
    import tensorflow as tf
    from tensorflow.core.framework import tensor_pb2

    proto = tensor_pb2.TensorProto.FromString(base64.b64decode(text))
    return tf.constant(tf.make_ndarray(proto), tf.dtypes.as_dtype(proto.dtype))


def _encode(tensor: Any) -> str:
    import tensorflow as tf

    # The type is named, since an array of no strings does not say that it holds strings.
    proto = tf.make_tensor_proto(tensor.numpy(), tensor.dtype, tensor.shape)
    return base64.b64encode(proto.SerializeToString()).decode("ascii")


def _foreign_ops(model: str) -> tuple[list[str], list[str]]:
    """Returns the operations that TensorFlow does not know, and those that call into Python."""
    from tensorflow.core.protobuf import saved_model_pb2
    from tensorflow.python.framework import op_def_registry

    with open(os.path.join(model, "saved_model.pb"), "rb") as file:
        saved = saved_model_pb2.SavedModel.FromString(file.read())
    found = set()
    for graph in saved.meta_graphs:
        functions = {function.signature.name for function in graph.graph_def.library.function}
        found |= {node.op for node in _nodes(graph.graph_def)} - functions
    unknown = [op for op in found if op_def_registry.get(op) is None]
    return sorted(unknown), sorted(found & PYTHON_OPS)


def _nodes(graph: Any) -> Iterator[Any]:
    yield from graph.node
    for function in graph.library.function:
        yield from function.node_def


def _text(error: Exception) -> str:
    told = [line.strip() for line in str(error).splitlines() if line.strip()]
    lines = [line for line in told if not line.startswith(_NO_REASON)] or told
    return f"{type(error).__name__}: {lines[0][:500] if lines else ''}".rstrip(": ")


if __name__ == "__main__":
    main(*sys.argv[1:])
