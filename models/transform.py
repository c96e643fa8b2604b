"""``preprocessing_fn`` for TFX Transform: ids to indices, numbers to z-scores.

The vocabularies and moments are those of the training split, which Transform analyses by
default; under ``vocabulary_expiry_days`` whoever runs Transform decides on the vocabularies
before (:mod:`models.id_ledger`). The graph is exported with the model, so that training and
serving agree.

Transformed features:

==========================  ====================  ============================================
name                        type                  meaning
==========================  ====================  ============================================
``item_id``, item fields    int64 [rows]          0 missing (and padding), 1 not in the
that histories carry                              vocabulary, from 2 on the vocabulary, most
                                                  frequent first; or the buckets of a hash
``history_…``               int64 sparse          the same indices, oldest first
``history_action``          int64 sparse          action type, 1-based
``fields``                  int64 [rows, fields]  all other categories, in the plan's order,
                                                  as indices in one vocabulary of name=value;
                                                  those that are hashed in buckets before it;
                                                  or in a table of the category's own
``numbers``                 float [rows, numbers] z-scores after the scale, in the plan's
                                                  order; 0, the mean, where missing
``user_group``              int64 [rows]          hash of the user, for within-user metrics,
                                                  never an input
``label``                   float [rows]          1 clicked, 0 not; absent when serving
==========================  ====================  ============================================

The target and the history share one vocabulary, and so do an item field and its history list.
The other categories share one as well, and the numbers one analysis: each analysis costs Beam
seconds, whatever the size of the data.

Equal rows give equal bits, whatever order and batches they come in: vocabularies are ordered by
count and then by value, the moments are exact, and no operation looks beyond its row.
"""

from __future__ import annotations

import os
from typing import Any, NamedTuple, TypeAlias

import apache_beam as beam
import tensorflow as tf
import tensorflow_transform as tft

from models import plan as plans
from models.hashing import hash_bucket
from models.moments import MomentsCombineFn
from schemas import features
from schemas.dataset_sections import FieldType, Scale

Values: TypeAlias = tf.Tensor | tf.SparseTensor | tf.RaggedTensor

# A z-score beyond this is an outlier or a unit error; it must not swamp the head.
LARGEST_Z_SCORE = 8.0
SMALLEST_VARIANCE = 1e-12
# A multiple of any vector width, with room for loops that take several vectors a turn.
VECTOR_ROWS = 64


def preprocessing_fn(
    inputs: dict[str, Values], custom_config: dict[str, Any] | None = None
) -> dict[str, Values]:
    """Transforms raw features into what the ranker reads.

    Args:
        inputs: raw features by name, dense, sparse or ragged as the schema says.
        custom_config: see :func:`models.plan.read_run_config`; under ``vocabularies`` the folder of
            vocabularies that are decided already, if they are.

    Returns:
        Transformed features by name.
    """
    plan = plans.read_run_config(custom_config).plan
    admission = _Admission(plan.min_count, (custom_config or {}).get(plans.VOCABULARIES_KEY))
    outputs: dict[str, Values] = {}
    for part in plan.item_parts:
        outputs.update(_shared_category(inputs, part, admission))
    if features.HISTORY_ACTION in plan.history_lists:
        outputs[features.HISTORY_ACTION] = _to_sparse(inputs[features.HISTORY_ACTION])
    if plan.categories:
        outputs[plans.FIELDS] = _categories(inputs, plan, admission)
    if plan.numbers:
        outputs[plans.NUMBERS] = _normalised(inputs, plan.numbers)
    if features.USER_ID in inputs:
        user = _scalar(inputs[features.USER_ID], _missing(plan.user))
        text = user if user.dtype == tf.string else tf.strings.as_string(user)
        outputs[plans.USER_GROUP] = tf.strings.to_hash_bucket_fast(text, 2**62)
    outputs[features.LABEL] = tf.cast(_scalar(inputs[features.LABEL], -1), tf.float32)
    return outputs


def _shared_category(
    inputs: dict[str, Values], part: plans.Category, admission: _Admission
) -> dict[str, Values]:
    """Gives the target's field and its history list one vocabulary."""
    name = features.history_feature(part.name)
    target = _scalar_category(inputs, part)
    history = _to_sparse(inputs[name])
    values = tf.concat([target, history.values], axis=0)
    if part.buckets is None:
        known = tf.boolean_mask(values, _is_present(values))
        vocabulary = admission.vocabulary(known, part.name)
        target_index, events = (_lookup(ids, vocabulary) for ids in (target, history.values))
    else:
        target_index, events = (_hashed(ids, part.buckets) for ids in (target, history.values))
    return {
        part.name: target_index,
        name: tf.SparseTensor(history.indices, events, history.dense_shape),
    }


def _categories(
    inputs: dict[str, Values], plan: plans.RankerPlan, admission: _Admission
) -> tf.Tensor:
    """Indices of all other categories, [rows, fields].

    In the common table those of hashed ones come first, in the plan's order, then those of the
    common vocabulary.
    """
    columns: dict[str, tf.Tensor] = {}
    tokens: dict[str, tf.Tensor] = {}
    first = plans.FIRST_INDEX
    for category in plan.categories:
        value = _scalar_category(inputs, category)
        if category.has_own_table and category.buckets is not None:
            columns[category.name] = _hashed(value, category.buckets)
            continue
        if category.has_own_table:
            known = tf.boolean_mask(value, _is_present(value))
            columns[category.name] = _lookup(value, admission.vocabulary(known, category.name))
            continue
        if category.buckets is not None:
            columns[category.name] = _hashed(value, category.buckets, first)
            first += category.buckets
            continue
        text = value if value.dtype == tf.string else tf.strings.as_string(value)
        token = tf.strings.join([tf.constant(f"{category.name}="), text])
        tokens[category.name] = tf.where(_is_present(value), token, tf.zeros_like(token))
    if tokens:
        table = tf.stack(list(tokens.values()), axis=1)
        known = tf.boolean_mask(table, _is_present(table))
        indices = _lookup(table, admission.vocabulary(known, plans.FIELDS), first)
        columns.update(zip(tokens, tf.unstack(indices, axis=1), strict=True))
    return tf.stack([columns[category.name] for category in plan.categories], axis=1)


class _Admission(NamedTuple):
    """Which values get an index of their own.

    Attributes:
        min_count: occurrences in the analysed split that are needed.
        folder: files of vocabularies that are decided already; there are none without it.
    """

    min_count: int
    folder: str | None

    def vocabulary(self, values: tf.Tensor, name: str) -> Any:
        """Returns the vocabulary of this name, of which ``values`` are all values that exist."""
        if self.folder is not None:
            return os.path.join(self.folder, name)
        return tft.vocabulary(values, vocab_filename=name, frequency_threshold=self.min_count)


def _hashed(values: tf.Tensor, buckets: int, first: int = plans.FIRST_INDEX) -> tf.Tensor:
    """Indices of ``values``: 0 missing, else the bucket, counted from ``first``."""
    index = hash_bucket(values, buckets) + first
    return tf.where(_is_present(values), index, tf.zeros_like(index) + plans.PADDING_INDEX)


def _lookup(values: tf.Tensor, vocabulary: Any, first: int = plans.FIRST_INDEX) -> tf.Tensor:
    """Indices of ``values``: 0 missing, 1 unknown, from ``first`` on the vocabulary."""
    found = tft.apply_vocabulary(values, vocabulary, default_value=-1)
    index = tf.where(found < 0, tf.cast(plans.UNKNOWN_INDEX, tf.int64), found + first)
    return tf.where(_is_present(values), index, tf.zeros_like(index) + plans.PADDING_INDEX)


def _scalar_category(inputs: dict[str, Values], category: plans.Category) -> tf.Tensor:
    if category.name not in inputs:
        raise ValueError(f"feature {category.name!r} is a model input, but not in the schema")
    value = _scalar(inputs[category.name], _missing(category.type))
    if (value.dtype == tf.string) != (category.type is FieldType.STRING):
        raise ValueError(
            f"feature {category.name!r}: the description says {category.type.value}, "
            f"the schema has {value.dtype.name}"
        )
    return value


def _scalar_number(inputs: dict[str, Values], number: plans.Number) -> tf.Tensor:
    """One number a row, NaN where it is missing."""
    if number.name == features.HISTORY_LENGTH:
        # Counted, not read: the field may disagree with the list, or be left out of a request.
        return tf.cast(_row_lengths(inputs[features.HISTORY_ITEM_ID]), tf.float32)
    if number.name not in inputs:
        raise ValueError(f"feature {number.name!r} is a model input, but not in the schema")
    missing = -1 if number.dtype is FieldType.INT else float("nan")
    value = tf.cast(_scalar(inputs[number.name], missing), tf.float32)
    if number.dtype is FieldType.INT:
        return tf.where(value < 0, tf.fill(tf.shape(value), float("nan")), value)
    return value


def _normalised(inputs: dict[str, Values], numbers: tuple[plans.Number, ...]) -> tf.Tensor:
    """Z-scores of all numbers, 0 where one is missing, [rows, numbers]."""
    columns = []
    for number in numbers:
        value = _scalar_number(inputs, number)
        if number.scale is Scale.LOG1P:
            # Minus infinity is no number, and not the least of them.
            is_below = tf.math.is_finite(value) & (value < 0)
            value = _log1p(tf.where(is_below, tf.zeros_like(value), value))
        columns.append(value)
    values = tf.cast(tf.stack(columns, axis=1), tf.float64)
    present = tf.math.is_finite(values)
    known = tf.where(present, values, tf.zeros_like(values))
    moments = tft.experimental.ptransform_analyzer(
        [values], _Moments(len(numbers)), [tf.float64], [[2, len(numbers)]]
    )
    mean, variance = tf.unstack(moments[0], axis=0)
    spread = tf.where(variance > SMALLEST_VARIANCE, tf.sqrt(variance), tf.ones_like(variance))
    score = tf.where(present, (known - mean) / spread, tf.zeros_like(known))
    return tf.cast(tf.clip_by_value(score, -LARGEST_Z_SCORE, LARGEST_Z_SCORE), tf.float32)


class _Moments(beam.PTransform):
    """Mean and variance of the columns of one analysed tensor."""

    def __init__(self, columns: int):
        super().__init__()
        self._columns = columns

    def expand(self, pcoll: beam.PCollection) -> beam.PCollection:
        return (
            pcoll
            | "Batch" >> beam.Map(lambda tensors: tensors[0])
            | "Moments" >> beam.CombineGlobally(MomentsCombineFn(self._columns))
        )


def _log1p(values: tf.Tensor) -> tf.Tensor:
    """log(1 + x) of a vector, whose bits do not depend on where in the batch a row stands.

    TensorFlow computes whole vectors of the processor with one approximation and the rows that
    are left over with another; filled up, no row is left over.
    """
    rows = tf.shape(values)[0]
    filled = tf.pad(values, [[0, tf.math.floormod(-rows, VECTOR_ROWS)]])
    return tf.math.log1p(filled)[:rows]


def _missing(kind: FieldType) -> str | int:
    return features.MISSING_STRING if kind is FieldType.STRING else features.MISSING_INT


def _is_present(values: tf.Tensor) -> tf.Tensor:
    missing = features.MISSING_STRING if values.dtype == tf.string else features.MISSING_INT
    return tf.not_equal(values, tf.constant(missing, values.dtype))


def _scalar(values: Values, missing: str | int | float) -> tf.Tensor:
    """The first value of each row, [rows]; ``missing`` where a row has none."""
    if isinstance(values, tf.RaggedTensor):
        values = values.to_sparse()
    if isinstance(values, tf.SparseTensor):
        rows = values.dense_shape[0]
        # Scattering needs indices of one value a row; more than one is cut to the first.
        first = tf.equal(values.indices[:, 1], 0)
        return tf.tensor_scatter_nd_update(
            tf.fill([rows], tf.constant(missing, values.dtype)),
            tf.boolean_mask(values.indices[:, :1], first),
            tf.boolean_mask(values.values, first),
        )
    return tf.reshape(values, [-1])


def _to_sparse(values: Values) -> tf.SparseTensor:
    if isinstance(values, tf.SparseTensor):
        return values
    if isinstance(values, tf.RaggedTensor):
        return values.to_sparse()
    return tf.RaggedTensor.from_tensor(values).to_sparse()


def _row_lengths(values: Values) -> tf.Tensor:
    if isinstance(values, tf.RaggedTensor):
        return values.row_lengths()
    sparse = _to_sparse(values)
    ones = tf.ones_like(sparse.values, dtype=tf.int64)
    return tf.math.unsorted_segment_sum(ones, sparse.indices[:, 0], sparse.dense_shape[0])
