"""Small rankers as SavedModels, whole or with a fault in any of their signatures."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from serving.protocol.tf_examples import serialize

Fault = Callable[[tf.Tensor], tf.Tensor]
Tensors = Mapping[str, tf.Tensor]


def _constant(score: tf.Tensor) -> tf.Tensor:
    return tf.zeros_like(score) + 0.25


def _some_nan(score: tf.Tensor) -> tf.Tensor:
    return tf.where(score > 0.6, np.nan, score)


def _slow(score: tf.Tensor) -> tf.Tensor:
    matrix = tf.eye(400) * (1 + 0 * tf.reduce_sum(score))
    for _ in range(60):
        matrix = tf.matmul(matrix, matrix)
    return score * matrix[0, 0]


def _in_python(score: tf.Tensor) -> tf.Tensor:
    called = tf.numpy_function(lambda values: values, [score], tf.float32)
    return tf.reshape(called, tf.shape(score))


FAULTS: Mapping[str, Fault] = {
    "constant": _constant,
    "nan": _some_nan,
    "lie": lambda score: score * 0.9,
    "outside": lambda score: score * 3.0,
    "slow": _slow,
    "python": _in_python,
}

_METHODS = {
    "classify": tf.compat.v1.saved_model.signature_constants.CLASSIFY_METHOD_NAME,
    "regress": tf.compat.v1.saved_model.signature_constants.REGRESS_METHOD_NAME,
}


def expected_score(user: int, item: int, history: list[int]) -> float:
    """What a model without a fault answers."""
    return float(1 / (1 + np.exp(-(0.02 * user + 0.05 * item - 0.01 * sum(history)))))


def make_examples(count: int) -> list[bytes]:
    """Serialized examples with histories of 0 to 4 events."""
    return [
        serialize(
            {
                "user_id": number % 7,
                "item_id": number,
                "history_item_id": list(range(number % 5)),
                "unused": "text",
            }
        )
        for number in range(count)
    ]


def write_model(folder: Path, **faults: str) -> Path:
    """Writes a SavedModel with the signatures of an exported ranker.

    Args:
        folder: where it goes.
        faults: name of a fault by name of the signature that has it.
    """

    def faulty(name: str, score: tf.Tensor) -> tf.Tensor:
        return FAULTS[faults[name]](score) if name in faults else score

    def of_examples(serialized: tf.Tensor) -> tf.Tensor:
        parsed = tf.io.parse_example(
            serialized,
            {
                "user_id": tf.io.FixedLenFeature([], tf.int64),
                "item_id": tf.io.FixedLenFeature([], tf.int64),
                "history_item_id": tf.io.VarLenFeature(tf.int64),
            },
        )
        history = tf.sparse.to_dense(parsed["history_item_id"])
        return _score(parsed["user_id"], parsed["item_id"], tf.reduce_sum(history, axis=1))

    examples = tf.TensorSpec([None], tf.string, name="examples")
    inputs = tf.TensorSpec([None], tf.string, name="inputs")

    @tf.function(input_signature=[examples])
    def serving_default(examples: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"score": faulty("serving_default", of_examples(examples))}

    @tf.function(input_signature=[inputs])
    def regress(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"outputs": faulty("regress", of_examples(inputs))[:, tf.newaxis]}

    @tf.function(input_signature=[inputs])
    def classify(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        score = faulty("classify", of_examples(inputs))
        classes = tf.broadcast_to(tf.constant([["0", "1"]]), [tf.shape(score)[0], 2])
        return {"classes": classes, "scores": tf.stack([1 - score, score], axis=1)}

    @tf.function(input_signature=[_specs()])
    def score(tensors: Tensors) -> dict[str, tf.Tensor]:
        history = _sum_of_history(tensors)
        return {"score": faulty("score", _score(tensors["user_id"], tensors["item_id"], history))}

    @tf.function(input_signature=[_specs(candidates=True)])
    def rank(tensors: Tensors) -> dict[str, tf.Tensor]:
        items = tensors["item_id"]
        history = _sum_of_history(tensors)[:, tf.newaxis]
        found = faulty("rank", _score(tensors["user_id"][:, tf.newaxis], items, history))
        counted = tf.sequence_mask(tensors["candidate_count"], tf.shape(items)[1])
        return {"score": tf.where(counted, found, tf.zeros_like(found))}

    module = tf.Module()
    module.unused = tf.Variable(1.0)
    tf.saved_model.save(
        module,
        str(folder),
        signatures={
            "serving_default": serving_default,
            "regress": regress,
            "classify": classify,
            "score": score,
            "rank": rank,
        },
    )
    updater = tf.compat.v1.saved_model.signature_def_utils.MethodNameUpdater(str(folder))
    for name, method in _METHODS.items():
        updater.replace_method_name(signature_key=name, method_name=method, tags="serve")
    updater.save(str(folder))
    os.makedirs(folder / "assets.extra", exist_ok=True)
    (folder / "assets.extra" / "lengthwise.json").write_text("{}")
    return folder


def _specs(*, candidates: bool = False) -> dict[str, Any]:
    ranks = {
        "user_id": 1,
        "item_id": 2 if candidates else 1,
        "history_item_id": 2,
        "history_length": 1,
    }
    if candidates:
        ranks["candidate_count"] = 1
    return {name: tf.TensorSpec([None] * rank, tf.int64, name=name) for name, rank in ranks.items()}


def _sum_of_history(tensors: Tensors) -> tf.Tensor:
    history = tensors["history_item_id"]
    counted = tf.sequence_mask(tensors["history_length"], tf.shape(history)[1])
    return tf.reduce_sum(tf.where(counted, history, tf.zeros_like(history)), axis=1)


def _score(user: tf.Tensor, item: tf.Tensor, history: tf.Tensor) -> tf.Tensor:
    user, item, history = (tf.cast(one, tf.float32) for one in (user, item, history))
    return tf.sigmoid(0.02 * user + 0.05 * item - 0.01 * history)
