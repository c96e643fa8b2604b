"""Raw features of a request, in the form that the Transform graph wants them.

A request may leave out what is optional. Whatever is left out becomes the contract's missing
value here, so that the graph sees no difference to an example of the log that lacks it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import tensorflow as tf

from models.alignment import right_align, right_aligned_mask
from models.plan import RankerPlan
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
    """

    name: str
    dtype: tf.DType
    is_list: bool = False
    required: bool = False

    @property
    def missing(self) -> str | int | float:
        """What stands for a missing value."""
        if self.dtype == tf.string:
            return features.MISSING_STRING
        return features.MISSING_INT if self.dtype == tf.int64 else float("nan")


def raw_features(plan: RankerPlan) -> list[RawFeature]:
    """Returns the raw features that a ranker reads, lists last."""
    found = [
        RawFeature(name=item.name, dtype=_TYPES[item.type], required=item.name == features.ITEM_ID)
        for item in (*plan.item_parts, *plan.categories)
    ]
    found += [
        RawFeature(name=number.name, dtype=_TYPES[number.dtype])
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
        result[feature.name] = tf.RaggedTensor.from_sparse(sparse) if is_ragged else sparse
    return result


def fit_lists(tensors: Tensors, plan: RankerPlan) -> Tensors:
    """Brings all history lists to the events of ``history_item_id``, at most ``max_length``.

    The last events are kept. A list that is shorter, since a request left it out, is filled up
    with missing values; one that is longer loses its oldest values.
    """
    items = tf.RaggedTensor.from_sparse(tensors[features.HISTORY_ITEM_ID])
    lengths = tf.minimum(items.row_lengths(), plan.max_length)
    longest = tf.reduce_max(tf.concat([lengths, tf.zeros([1], lengths.dtype)], axis=0))
    mask = right_aligned_mask(lengths, longest)
    result = dict(tensors)
    for feature in raw_features(plan):
        if feature.is_list:
            events = tf.RaggedTensor.from_sparse(tensors[feature.name])
            missing = 0 if feature.name == features.HISTORY_ACTION else feature.missing
            aligned = right_align(events, longest, padding=tf.constant(missing, feature.dtype))
            values = tf.boolean_mask(aligned, mask)
            result[feature.name] = tf.RaggedTensor.from_row_lengths(values, lengths).to_sparse()
    return result


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
