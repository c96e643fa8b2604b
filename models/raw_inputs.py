"""Raw features of a request, in the form that the Transform graph wants them.

A request may leave out what is optional. Whatever is left out becomes the contract's missing
value here, so that the graph sees no difference to an example of the log that lacks it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import tensorflow as tf

from models.alignment import right_align
from models.plan import CANDIDATE_COUNT, RankerPlan
from schemas import features
from schemas.dataset_sections import FieldType

RawSpec: TypeAlias = Mapping[str, tf.io.FixedLenFeature | tf.io.VarLenFeature | tf.io.RaggedFeature]
Tensors: TypeAlias = dict[str, tf.Tensor | tf.SparseTensor | tf.RaggedTensor]

_TYPES = {FieldType.INT: tf.int64, FieldType.FLOAT: tf.float32, FieldType.STRING: tf.string}


@dataclass(frozen=True, kw_only=True)
class RawFeature:
    """A raw feature that a ranker reads.

    Attributes:
        name: its name.
        dtype: type of its values.
        is_list: whether it is a history list.
        required: whether a request without it is refused.
        of_candidate: whether it differs between the candidates of a user.
    """

    name: str
    dtype: tf.DType
    is_list: bool = False
    required: bool = False
    of_candidate: bool = False

    @property
    def missing(self) -> str | int | float:
        """What stands for a missing value."""
        if self.dtype == tf.string:
            return features.MISSING_STRING
        return features.MISSING_INT if self.dtype == tf.int64 else float("nan")


def raw_features(plan: RankerPlan) -> list[RawFeature]:
    """Returns the raw features that a ranker reads, lists last."""
    of_candidate = {*(part.name for part in plan.item_parts), *plan.candidate_fields}
    found = [
        RawFeature(
            name=item.name,
            dtype=_TYPES[item.type],
            required=item.name == features.ITEM_ID,
            of_candidate=item.name in of_candidate,
        )
        for item in (*plan.item_parts, *plan.categories)
    ]
    found += [
        RawFeature(
            name=number.name, dtype=_TYPES[number.dtype], of_candidate=number.name in of_candidate
        )
        for number in plan.numbers
        # Transform counts the list instead of reading this one.
        if number.name != features.HISTORY_LENGTH
    ]
    types = {features.history_feature(part.name): _TYPES[part.type] for part in plan.item_parts}
    found += [
        RawFeature(name=name, dtype=types.get(name, tf.int64), is_list=True)
        for name in plan.history_lists
    ]
    return found


def parse_examples(serialized: tf.Tensor, plan: RankerPlan) -> Tensors:
    """Parses serialized ``tf.Example``s into dense scalars [rows] and sparse lists.

    Args:
        serialized: [rows].
        plan: what the ranker reads.
    """
    wanted = raw_features(plan)
    lenient = {
        feature.name: tf.io.FixedLenFeature([], feature.dtype)
        if feature.required
        else tf.io.VarLenFeature(feature.dtype)
        for feature in wanted
    }
    parsed = tf.io.parse_example(serialized, lenient)
    rows = tf.shape(serialized, out_type=tf.int64)[0]
    tensors: Tensors = {}
    for feature in wanted:
        value = parsed[feature.name]
        if isinstance(value, tf.SparseTensor) and not feature.is_list:
            value = _first_values(value, rows, feature)
        tensors[feature.name] = value
    return tensors


def conform(tensors: Tensors, plan: RankerPlan, spec: RawSpec) -> Tensors:
    """Brings dense scalars and sparse lists into the form that the Transform graph wants."""
    result: Tensors = {}
    for feature in raw_features(plan):
        value, form = tensors[feature.name], spec[feature.name]
        if isinstance(form, tf.io.FixedLenFeature):
            shape = tf.concat([tf.shape(value)[:1], tf.constant(form.shape, tf.int32)], axis=0)
            result[feature.name] = tf.reshape(value, shape)
            continue
        sparse = value if feature.is_list else _scalars_to_sparse(value, feature)
        is_ragged = isinstance(form, tf.io.RaggedFeature)
        result[feature.name] = to_ragged(sparse) if is_ragged else sparse
    return result


def fit_lists(tensors: Tensors, plan: RankerPlan) -> Tensors:
    """Brings all history lists to the events of ``history_item_id``, at most ``max_length``.

    The last events are kept. A list that is shorter, since a request left it out, is filled up
    with missing values; one that is longer loses its oldest values. What has no item is no event
    and is left out of all lists.
    """
    items = to_ragged(tensors[features.HISTORY_ITEM_ID])
    lengths = tf.minimum(items.row_lengths(), plan.max_length)
    longest = tf.reduce_max(tf.concat([lengths, tf.zeros([1], lengths.dtype)], axis=0))
    wanted = {feature.name: feature for feature in raw_features(plan) if feature.is_list}
    aligned = {
        name: right_align(to_ragged(tensors[name]), longest, padding=_no_event(feature))
        for name, feature in wanted.items()
    }
    item = features.HISTORY_ITEM_ID
    is_event = tf.not_equal(aligned[item], _no_event(wanted[item]))
    kept = tf.reduce_sum(tf.cast(is_event, tf.int64), axis=1)
    lists = {
        name: tf.RaggedTensor.from_row_lengths(
            tf.boolean_mask(values, is_event), kept, validate=False
        ).to_sparse()
        for name, values in aligned.items()
    }
    return {**tensors, **lists}


def to_ragged(lists: tf.SparseTensor) -> tf.RaggedTensor:
    """Returns lists [rows, values] whose values stand from column 0 on without a hole.

    That is so in parsed examples, in what comes from ragged tensors and in what Transform makes of
    them. ``RaggedTensor.from_sparse`` would check it, by a branch for each list of each signature,
    which takes a server time whenever it loads the model and with every call.
    """
    return tf.RaggedTensor.from_value_rowids(
        lists.values, lists.indices[:, 0], nrows=lists.dense_shape[0], validate=False
    )


def dense_to_sparse(values: tf.Tensor, length: tf.Tensor, name: str) -> tf.SparseTensor:
    """Keeps the first ``length`` [rows] columns of a list [rows, columns].

    Raises:
        tf.errors.InvalidArgumentError: a length is negative or larger than the columns.
    """
    checks = [
        tf.debugging.assert_non_negative(length, message="history_length: negative"),
        tf.debugging.assert_less_equal(
            length,
            tf.shape(values, out_type=tf.int64)[1],
            message=f"history_length: larger than the columns of {name}",
        ),
    ]
    with tf.control_dependencies(checks):
        return tf.RaggedTensor.from_tensor(values, lengths=length).to_sparse()


def cut_candidates(tensors: Mapping[str, tf.Tensor], plan: RankerPlan) -> dict[str, tf.Tensor]:
    """Cuts the candidates of a ``rank`` request to the columns that any user fills.

    Args:
        tensors: features by name: those of candidates [users, candidates], lists [users, events],
            all others, ``history_length`` and ``candidate_count`` [users].
        plan: what the ranker reads.

    Raises:
        tf.errors.InvalidArgumentError: a count is negative or larger than the columns, features of
            candidates are not of one shape, or those of users not of as many rows.
    """
    counts = tensors[CANDIDATE_COUNT]
    shape = tf.shape(tensors[features.ITEM_ID], out_type=tf.int64)
    checks = [
        tf.debugging.assert_non_negative(counts, message=f"{CANDIDATE_COUNT}: negative"),
        tf.debugging.assert_less_equal(
            counts, shape[1], message=f"{CANDIDATE_COUNT}: larger than the columns of item_id"
        ),
    ]
    of_user = [feature.name for feature in raw_features(plan) if not feature.of_candidate]
    of_user += [features.HISTORY_LENGTH, CANDIDATE_COUNT]
    # Fields of other rows would be repeated for the wrong candidates. One check is one branch.
    rows = tf.stack([tf.shape(tensors[name], out_type=tf.int64)[0] for name in of_user])
    checks.append(
        tf.debugging.assert_equal(
            rows,
            shape[0],
            message=f"{', '.join(of_user)}: as many rows as item_id are accepted",
            summarize=len(of_user),
        )
    )
    longest = tf.reduce_max(tf.concat([counts, tf.zeros([1], counts.dtype)], axis=0))
    cut = dict(tensors)
    for feature in raw_features(plan):
        if feature.of_candidate:
            value = tensors[feature.name]
            check = tf.debugging.assert_equal(
                tf.shape(value, out_type=tf.int64),
                shape,
                message=f"{feature.name}: the shape of item_id is accepted",
            )
            with tf.control_dependencies([*checks, check]):
                cut[feature.name] = value[:, :longest]
    return cut


def user_rows(tensors: Mapping[str, tf.Tensor], plan: RankerPlan) -> Tensors:
    """Returns what depends on the user of a ``rank`` request, a row a user, without a candidate.

    Args:
        tensors: see :func:`cut_candidates`.
        plan: what the ranker reads.
    """
    length = tensors[features.HISTORY_LENGTH]
    found: Tensors = {}
    for feature in raw_features(plan):
        value = tensors[feature.name]
        if feature.is_list:
            found[feature.name] = dense_to_sparse(value, length, feature.name)
        else:
            found[feature.name] = _missing(feature, length) if feature.of_candidate else value
    return found


def candidate_rows(tensors: Mapping[str, tf.Tensor], plan: RankerPlan) -> Tensors:
    """Returns what depends on the candidates of a ``rank`` request, a row each, without a user.

    Args:
        tensors: see :func:`cut_candidates`.
        plan: what the ranker reads.
    """
    items = tf.reshape(tensors[features.ITEM_ID], [-1])
    rows = tf.shape(items, out_type=tf.int64)[0]
    found: Tensors = {}
    for feature in raw_features(plan):
        if feature.is_list:
            empty = tf.zeros([0, 2], tf.int64)
            values = tf.constant([], feature.dtype)
            found[feature.name] = tf.SparseTensor(empty, values, tf.stack([rows, 0]))
        elif feature.of_candidate:
            found[feature.name] = tf.reshape(tensors[feature.name], [-1])
        else:
            found[feature.name] = _missing(feature, items)
    return found


def _missing(feature: RawFeature, rows: tf.Tensor) -> tf.Tensor:
    return tf.fill(tf.shape(rows), tf.constant(feature.missing, feature.dtype))


def _no_event(feature: RawFeature) -> tf.Tensor:
    """What a history list holds where there is nothing; an unknown action type is 0."""
    is_action = feature.name == features.HISTORY_ACTION
    return tf.constant(0 if is_action else feature.missing, feature.dtype)


def _first_values(value: tf.SparseTensor, rows: tf.Tensor, feature: RawFeature) -> tf.Tensor:
    first = tf.equal(value.indices[:, 1], 0)
    return tf.tensor_scatter_nd_update(
        tf.fill([rows], tf.constant(feature.missing, feature.dtype)),
        tf.boolean_mask(value.indices[:, :1], first),
        tf.boolean_mask(value.values, first),
    )


def _scalars_to_sparse(value: tf.Tensor, feature: RawFeature) -> tf.SparseTensor:
    """[rows] to a sparse [rows, 1] that leaves missing numbers out."""
    if feature.dtype.is_floating:
        present = tf.math.is_finite(value)
    else:
        present = tf.fill(tf.shape(value), True)
    rows = tf.where(present)
    return tf.SparseTensor(
        tf.concat([rows, tf.zeros_like(rows)], axis=1),
        tf.boolean_mask(value, present),
        tf.stack([tf.shape(value, out_type=tf.int64)[0], 1]),
    )
