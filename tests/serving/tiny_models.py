"""Small SavedModels with every kind of signature, and what they answer worked out by hand."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import tensorflow as tf

_METHODS = {
    "classify": tf.compat.v1.saved_model.signature_constants.CLASSIFY_METHOD_NAME,
    "classify_scores": tf.compat.v1.saved_model.signature_constants.CLASSIFY_METHOD_NAME,
    "regress": tf.compat.v1.saved_model.signature_constants.REGRESS_METHOD_NAME,
    "regress_wide": tf.compat.v1.saved_model.signature_constants.REGRESS_METHOD_NAME,
}


class _Tiny(tf.Module):
    def __init__(self, factor: float):
        super().__init__()
        self.factor = tf.Variable(factor)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def scale(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": x * self.factor}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def shift(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": x + 1000.0}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def positive(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        check = tf.debugging.assert_greater_equal(x, 0.0, message="x: negative")
        with tf.control_dependencies([check]):
            return {"y": x * self.factor}

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.int64, name="ids"),
            tf.TensorSpec([None, None], tf.float32, name="values"),
            tf.TensorSpec([None], tf.string, name="names"),
        ]
    )
    def mixed(self, ids: tf.Tensor, values: tf.Tensor, names: tf.Tensor) -> dict[str, tf.Tensor]:
        total = tf.reduce_sum(values, axis=1) + tf.cast(ids, tf.float32) * self.factor
        return {"total": total, "name": names, "ids": ids, "raw_bytes": names}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def total(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"sum": tf.reduce_sum(x)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def lone(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        total = tf.reduce_sum(x) * self.factor
        return {
            "text": tf.strings.as_string(total, precision=1),
            "half": tf.cast(total, "bfloat16"),
        }

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def turned(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": tf.complex(x, x * self.factor)}

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.bool, name="flags")])
    def flags(self, flags: tf.Tensor) -> dict[str, tf.Tensor]:
        return {
            "half": tf.cast(flags, tf.float16),
            "double": tf.cast(flags, tf.float64),
            "int32": tf.cast(flags, tf.int32),
            "uint8": tf.cast(flags, tf.uint8),
            "bool": flags,
        }

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
    def classify(self, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        x = _parse(inputs)
        classes = tf.broadcast_to(tf.constant([["no", "yes"]]), [tf.shape(x)[0], 2])
        return {"classes": classes, "scores": tf.stack([1 - x, x], axis=1)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
    def classify_scores(self, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"scores": _parse(inputs)[:, tf.newaxis]}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
    def regress(self, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"outputs": (_parse(inputs) * self.factor)[:, tf.newaxis]}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
    def regress_wide(self, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        x = _parse(inputs)
        return {"outputs": tf.stack([x, x], axis=1)}


def write_version(folder: Path, number: int, factor: float = 2.0) -> Path:
    """Writes a version as a pusher does: under another name first, then renamed.

    Signatures: ``serving_default`` x -> y = factor * x; ``shift`` x -> y = x + 1000; ``positive``
    like the first but refuses negative x; ``mixed``; ``total``, whose output is one number for
    all rows; ``lone``, a text and a number without a shape; ``turned``, complex numbers;
    ``flags`` of many types; ``classify``, ``classify_scores``, ``regress``, and
    ``regress_wide``, whose output is no regression.
    """
    staged = folder / f".staging-{number}"
    shutil.rmtree(staged, ignore_errors=True)
    tiny = _Tiny(factor)
    tf.saved_model.save(
        tiny,
        str(staged),
        signatures={
            "serving_default": tiny.scale,
            "shift": tiny.shift,
            "positive": tiny.positive,
            "mixed": tiny.mixed,
            "total": tiny.total,
            "lone": tiny.lone,
            "turned": tiny.turned,
            "flags": tiny.flags,
            "classify": tiny.classify,
            "classify_scores": tiny.classify_scores,
            "regress": tiny.regress,
            "regress_wide": tiny.regress_wide,
        },
    )
    updater = tf.compat.v1.saved_model.signature_def_utils.MethodNameUpdater(str(staged))
    for name, method in _METHODS.items():
        updater.replace_method_name(signature_key=name, method_name=method, tags="serve")
    updater.save(str(staged))
    os.rename(staged, folder / str(number))
    return folder / str(number)


def write_endless_version(folder: Path, number: int) -> None:
    """Writes a version whose only signature, x -> y = x, takes hours."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def endless(x: tf.Tensor) -> dict[str, tf.Tensor]:
        many = tf.constant(10**12, tf.int64)
        steps = tf.while_loop(lambda step: step < many, lambda step: (step + 1,), (many * 0,))
        return {"y": x + tf.cast(steps[0] - many, tf.float32)}

    module = tf.Module()
    module.endless = endless
    module.weight = tf.Variable(1.0)
    staged = folder / f".staging-{number}"
    tf.saved_model.save(module, str(staged), signatures={"serving_default": endless})
    os.rename(staged, folder / str(number))


def copy_version(source: Path, folder: Path, number: int) -> Path:
    """Puts a copy of a version under another number, complete from the first moment."""
    folder.mkdir(parents=True, exist_ok=True)
    staged = folder / f".staging-{number}"
    shutil.copytree(source, staged)
    os.rename(staged, folder / str(number))
    return folder / str(number)


def example(x: float) -> tf.train.Example:
    """An example for the classify and regress signatures."""
    made = tf.train.Example()
    made.features.feature["x"].float_list.value.append(x)
    return made


def _parse(inputs: tf.Tensor) -> tf.Tensor:
    features = {"x": tf.io.FixedLenFeature([], tf.float32)}
    return tf.io.parse_example(inputs, features)["x"]
