"""Exports a trained ranker as a SavedModel that loads with TensorFlow alone.

Signatures, each with the Transform graph inside:

- ``serving_default``: serialized ``tf.Example``s ``examples`` [rows] to ``score`` [rows], the
  click probability.
- ``regress``: ``inputs`` [rows] to ``outputs`` [rows, 1].
- ``classify``: ``inputs`` [rows] to ``classes`` and ``scores`` [rows, 2], for "0" and "1".
- ``score``: raw tensors by feature name to ``score`` [rows]. A history list is
  [rows, events], oldest first from column 0 on, of which the first ``history_length`` [rows]
  columns count. A missing category is -1 or "", a missing number NaN.
- ``rank``: the same with a row a user, but ``item_id`` and all other features of candidates are
  [users, candidates], of which the first ``candidate_count`` [users] columns count; to ``score``
  [users, candidates], 0 in the columns after these. What depends on the user alone is computed
  once for all of his candidates.

An example may leave out everything but ``item_id``. Of a history longer than the maximum the
last events are read.
"""

from __future__ import annotations

import glob
import os
import shutil
from collections.abc import Callable
from typing import Any, TypeAlias

import tensorflow as tf
import tensorflow_transform as tft

from models import raw_inputs
from models.config import TablePrecision
from models.files import write_json
from models.layers.candidates import repeat_for_candidates
from models.plan import CANDIDATE_COUNT, FIELDS, NUMBERS, RankerPlan
from models.ranker import Features, Ranker
from models.table_storage import stored_tables
from schemas import features

CONFIG_FILE = os.path.join("assets.extra", "lengthwise.json")
SCORE = "score"

# TF Serving looks these up by name; a TF 2 export calls every signature "predict".
METHOD_NAMES = {
    "regress": tf.compat.v1.saved_model.signature_constants.REGRESS_METHOD_NAME,
    "classify": tf.compat.v1.saved_model.signature_constants.CLASSIFY_METHOD_NAME,
}

Scores: TypeAlias = dict[str, tf.Tensor]


def export_ranker(
    ranker: Ranker,
    transform_output: tft.TFTransformOutput,
    directory: str,
    *,
    saved_config: dict[str, Any],
    precision: TablePrecision = TablePrecision.FLOAT32,
) -> dict[str, int]:
    """Writes a ranker to ``directory``, which appears only when it is complete.

    Args:
        ranker: trained and built.
        transform_output: what it was trained on.
        directory: path of the SavedModel; what is there is replaced.
        saved_config: resolved configuration, saved as ``assets.extra/lengthwise.json``.
        precision: how the embedding tables are kept.

    Returns:
        Bytes: ``table_bytes_float32`` of the tables as they were trained, ``table_bytes`` as they
        are kept, and ``model_bytes`` of the graph and all of its weights on disk.
    """
    module = tf.Module(name="lengthwise")
    # The variables and the tables of the Transform graph are all that the signatures need;
    # tracking the Keras objects as well would drag their Python state into the export.
    tables = {table.ref() for table in ranker.tables}
    module.variables_of_ranker = [
        weight
        for weight in ranker.variables
        if precision is TablePrecision.FLOAT32 or weight.ref() not in tables
    ]
    module.transform = transform_output.transform_features_layer()
    staged = directory + ".staged"
    shutil.rmtree(staged, ignore_errors=True)
    # One group: requests are small, and the rows of one user are of one length.
    groups, ranker.length_groups = ranker.length_groups, 1
    try:
        with stored_tables(ranker.embeddings, precision) as stored:
            module.tables = stored
            tf.saved_model.save(
                module,
                staged,
                signatures=make_signatures(ranker, transform_output, module.transform),
            )
    finally:
        ranker.length_groups = groups
    _set_method_names(staged)
    os.makedirs(os.path.join(staged, "assets.extra"), exist_ok=True)
    write_json(os.path.join(staged, CONFIG_FILE), saved_config)
    shutil.rmtree(directory, ignore_errors=True)
    os.makedirs(os.path.dirname(directory), exist_ok=True)
    os.rename(staged, directory)
    trained = sum(table.shape.num_elements() * table.dtype.size for table in ranker.tables)
    return {
        "table_bytes_float32": trained,
        "table_bytes": sum(table.bytes for table in stored) if stored else trained,
        "model_bytes": sum(
            os.path.getsize(path)
            for pattern in ("saved_model.pb", os.path.join("variables", "*"))
            for path in glob.glob(os.path.join(directory, pattern))
        ),
    }


def make_signatures(
    ranker: Ranker, transform_output: tft.TFTransformOutput, transform: tf.keras.layers.Layer
) -> dict[str, Any]:
    """Returns the signatures by name, functions that are traced when they are first called.

    Args:
        ranker: trained and built.
        transform_output: what it was trained on.
        transform: its layer, which whoever saves the functions has to keep.
    """
    plan = ranker.plan
    spec = transform_output.raw_feature_spec()

    def transformed(raw: raw_inputs.Tensors) -> Features:
        fitted = raw_inputs.fit_lists(raw, plan)
        return _to_ragged(transform(raw_inputs.conform(fitted, plan, spec)))

    def probability(raw: raw_inputs.Tensors) -> tf.Tensor:
        return tf.sigmoid(ranker(transformed(raw), training=False))

    def of_candidates(request: raw_inputs.Tensors) -> tf.Tensor:
        users = transformed(raw_inputs.user_rows(request, plan))
        candidates = transformed(raw_inputs.candidate_rows(request, plan))
        joined = _join_candidates(users, candidates, plan)
        return tf.sigmoid(ranker(joined, training=False, shared_history=True))

    def of_examples(serialized: tf.Tensor) -> tf.Tensor:
        return probability(raw_inputs.parse_examples(serialized, plan))

    examples = tf.TensorSpec([None], tf.string, name="examples")
    inputs = tf.TensorSpec([None], tf.string, name="inputs")

    @tf.function(input_signature=[examples])
    def serving_default(examples: tf.Tensor) -> Scores:
        return {SCORE: of_examples(examples)}

    @tf.function(input_signature=[inputs])
    def regress(inputs: tf.Tensor) -> Scores:
        return {"outputs": of_examples(inputs)[:, tf.newaxis]}

    @tf.function(input_signature=[inputs])
    def classify(inputs: tf.Tensor) -> Scores:
        score = of_examples(inputs)
        classes = tf.broadcast_to(tf.constant([["0", "1"]]), [tf.shape(score)[0], 2])
        return {"classes": classes, "scores": tf.stack([1 - score, score], axis=-1)}

    return {
        "serving_default": serving_default,
        "regress": regress,
        "classify": classify,
        "score": _score_signature(plan, probability),
        "rank": _rank_signature(plan, of_candidates),
    }


def _score_signature(
    plan: RankerPlan, probability: Callable[[raw_inputs.Tensors], tf.Tensor]
) -> Any:
    wanted = raw_inputs.raw_features(plan)
    specs = {
        feature.name: _spec(feature.name, feature.dtype, is_wide=feature.is_list)
        for feature in wanted
    }
    specs[features.HISTORY_LENGTH] = _spec(features.HISTORY_LENGTH, tf.int64)

    @tf.function(input_signature=[specs])
    def score(tensors: dict[str, tf.Tensor]) -> Scores:
        length = tensors[features.HISTORY_LENGTH]
        raw: raw_inputs.Tensors = {}
        for feature in wanted:
            value = tensors[feature.name]
            raw[feature.name] = (
                raw_inputs.dense_to_sparse(value, length, feature.name)
                if feature.is_list
                else value
            )
        return {SCORE: probability(raw)}

    return score


def _rank_signature(
    plan: RankerPlan, of_candidates: Callable[[raw_inputs.Tensors], tf.Tensor]
) -> Any:
    wanted = raw_inputs.raw_features(plan)
    specs = {
        feature.name: _spec(
            feature.name, feature.dtype, is_wide=feature.is_list or feature.of_candidate
        )
        for feature in wanted
    }
    for name in (features.HISTORY_LENGTH, CANDIDATE_COUNT):
        specs[name] = _spec(name, tf.int64)

    @tf.function(input_signature=[specs])
    def rank(tensors: dict[str, tf.Tensor]) -> Scores:
        request = raw_inputs.cut_candidates(tensors, plan)
        counts, sizes = request[CANDIDATE_COUNT], tf.shape(request[features.ITEM_ID])
        scores = tf.reshape(of_candidates(request), sizes)
        scores = tf.where(tf.sequence_mask(counts, sizes[1]), scores, tf.zeros_like(scores))
        cut = tf.shape(tensors[features.ITEM_ID])[1] - sizes[1]
        return {SCORE: tf.pad(scores, [[0, 0], [0, cut]])}

    return rank


def _spec(name: str, dtype: tf.DType, *, is_wide: bool = False) -> tf.TensorSpec:
    return tf.TensorSpec([None, None] if is_wide else [None], dtype, name=name)


def _join_candidates(users: Features, candidates: Features, plan: RankerPlan) -> Features:
    """Gives the candidates the histories and fields of their users, whose rows are repeated."""
    joined = dict(candidates)
    joined.update({name: users[name] for name in plan.history_lists})
    columns = {
        FIELDS: [category.name for category in plan.categories],
        NUMBERS: [number.name for number in plan.numbers],
    }
    for name in [name for name in columns if name in candidates]:
        is_own = [column in plan.candidate_fields for column in columns[name]]
        of_user = repeat_for_candidates(users[name], candidates[name])
        joined[name] = tf.where(is_own, candidates[name], of_user)
    return joined


def _to_ragged(transformed: dict[str, tf.Tensor | tf.SparseTensor]) -> dict[str, Any]:
    return {
        name: raw_inputs.to_ragged(value) if isinstance(value, tf.SparseTensor) else value
        for name, value in transformed.items()
    }


def _set_method_names(directory: str) -> None:
    updater = tf.compat.v1.saved_model.signature_def_utils.MethodNameUpdater(directory)
    for signature, method in METHOD_NAMES.items():
        updater.replace_method_name(signature_key=signature, method_name=method, tags="serve")
    updater.save(directory)
