"""The test split of an example set: transformed features, and what its rows are sliced by."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from models.plan import NUMBERS, USER_GROUP, RankerPlan
from pipeline.experiments.row_facts import FACT, Array, RowFacts, write_arrays
from schemas import features

BATCH = 4096
READ_BUFFER_BYTES = 1 << 20

_FEATURE = "feature/"
_VALUES = "/values"
_SPLITS = "/splits"

_META = {
    features.LABEL: tf.io.FixedLenFeature([], tf.int64),
    features.TIMESTAMP: tf.io.FixedLenFeature([], tf.int64),
    features.HISTORY_LENGTH: tf.io.FixedLenFeature([], tf.int64),
    features.ITEM_TRAIN_COUNT: tf.io.FixedLenFeature([], tf.int64),
    features.LENGTH_BUCKET: tf.io.FixedLenFeature([], tf.string),
    features.DENSITY_BUCKET: tf.io.FixedLenFeature([], tf.string),
}


class TransformOutput(Protocol):
    """The part of ``tft.TFTransformOutput`` that is used here."""

    def raw_feature_spec(self) -> dict[str, Any]:
        """Returns how a raw example is parsed."""

    def transform_features_layer(self) -> Any:
        """Returns the Transform graph as a layer."""


class ScoredRows:
    """The transformed test split in memory, in the order of the examples' files.

    Args:
        facts: what is known of each row.
        columns: transformed features; a list feature as a pair of values and row splits.
    """

    def __init__(self, facts: RowFacts, columns: dict[str, Array | tuple[Array, Array]]) -> None:
        self.facts = facts
        self._columns = columns

    def batches(self, names: Sequence[str], batch_size: int) -> Iterator[dict[str, Any]]:
        """Yields the features in batches, dense or ragged tensors by name.

        Raises:
            ValueError: a feature is not there.
        """
        missing = [name for name in names if name not in self._columns]
        if missing:
            raise ValueError(
                f"test rows: features {missing} are not among {sorted(self._columns)}; the "
                "example set was made for another plan"
            )
        for start in range(0, len(self.facts), batch_size):
            stop = min(start + batch_size, len(self.facts))
            yield {name: _cut(self._columns[name], start, stop) for name in names}

    def sample(self, rows: int) -> ScoredRows:
        """Returns at most ``rows`` rows, evenly spaced."""
        count = len(self.facts)
        if count <= rows:
            return self
        chosen = np.arange(rows) * count // rows
        columns = {
            name: _take(*column, chosen) if isinstance(column, tuple) else column[chosen]
            for name, column in self._columns.items()
        }
        return ScoredRows(self.facts.take(chosen), columns)

    def at_first_impression(self, plan: RankerPlan) -> ScoredRows:
        """Returns the rows with the history each user had before the first of them.

        So a user's candidates are all scored in one state of the user, as in one request.
        """
        first = self.facts.first_of_user()
        columns = dict(self._columns)
        for name in plan.history_lists:
            values, splits = columns[name]
            columns[name] = _take(values, splits, first)
        lengths = (features.HISTORY_LENGTH, features.HISTORY_LENGTH_TOTAL)
        of_history = [number.name in lengths for number in plan.numbers]
        if any(of_history):
            numbers = np.array(columns[NUMBERS])
            numbers[:, of_history] = numbers[first][:, of_history]
            columns[NUMBERS] = numbers
        return ScoredRows(self.facts, columns)

    def write(self, path: Path) -> None:
        """Writes all arrays to an npz file, under a temporary name first."""
        arrays: dict[str, Array] = {
            FACT + name: getattr(self.facts, name) for name in RowFacts.__dataclass_fields__
        }
        for name, column in self._columns.items():
            if isinstance(column, tuple):
                arrays[_FEATURE + name + _VALUES], arrays[_FEATURE + name + _SPLITS] = column
            else:
                arrays[_FEATURE + name] = column
        write_arrays(path, arrays)

    @classmethod
    def read(cls, path: Path | str) -> ScoredRows:
        """Reads what :meth:`write` wrote."""
        columns: dict[str, Array | tuple[Array, Array]] = {}
        with np.load(path) as arrays:
            for key in arrays.files:
                name = key.removeprefix(_FEATURE)
                if name == key or name.endswith(_SPLITS):
                    continue
                if name.endswith(_VALUES):
                    name = name.removesuffix(_VALUES)
                    columns[name] = (arrays[key], arrays[_FEATURE + name + _SPLITS])
                else:
                    columns[name] = arrays[key]
        return cls(RowFacts.read(path), columns)


def make_scored_rows(files: Sequence[str], transform: TransformOutput) -> ScoredRows:
    """Transforms raw test examples, file by file in the order given.

    Args:
        files: TFRecord files of the test split.
        transform: the Transform graph of the example set.
    """
    spec = transform.raw_feature_spec()
    layer = transform.transform_features_layer()

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def read(serialized: tf.Tensor) -> tuple[dict[str, Any], dict[str, Any]]:
        raw = tf.io.parse_example(serialized, spec)
        outputs = {
            name: tf.RaggedTensor.from_sparse(value)
            if isinstance(value, tf.SparseTensor)
            else value
            for name, value in layer(raw).items()
        }
        facts = tf.io.parse_example(serialized, _META)
        user, item = (_as_text(raw[name]) for name in (features.USER_ID, features.ITEM_ID))
        time = tf.strings.as_string(facts[features.TIMESTAMP])
        facts["key"] = tf.strings.to_hash_bucket_fast(
            tf.strings.join([user, item, time], separator="\t"), 2**62
        )
        return outputs, facts

    pieces: list[dict[str, Any]] = []
    facts: list[dict[str, Any]] = []
    for file in files:
        compression = "GZIP" if file.endswith(".gz") else ""
        records = tf.data.TFRecordDataset(file, compression, buffer_size=READ_BUFFER_BYTES)
        for batch in records.batch(BATCH):
            outputs, about = read(batch)
            pieces.append(outputs)
            facts.append(about)
    if not pieces:
        raise ValueError("test split: it has no examples")
    columns = {name: _joined([piece[name] for piece in pieces]) for name in pieces[0]}
    merged = {name: _joined([about[name] for about in facts]) for name in facts[0]}
    return ScoredRows(
        RowFacts(
            label=merged[features.LABEL].astype(np.float32),
            user=columns[USER_GROUP],
            key=merged["key"],
            time=merged[features.TIMESTAMP],
            history_length=merged[features.HISTORY_LENGTH],
            item_train_count=merged[features.ITEM_TRAIN_COUNT],
            length_bucket=merged[features.LENGTH_BUCKET].astype("U"),
            density_bucket=merged[features.DENSITY_BUCKET].astype("U"),
        ),
        columns,
    )


def _as_text(value: Any) -> tf.Tensor:
    if isinstance(value, tf.RaggedTensor):
        value = value.to_sparse()
    if isinstance(value, tf.SparseTensor):
        value = tf.sparse.to_dense(value)
    value = tf.reshape(value, [-1])
    return value if value.dtype == tf.string else tf.strings.as_string(value)


def _joined(tensors: list[Any]) -> Any:
    if isinstance(tensors[0], tf.RaggedTensor):
        values = np.concatenate([tensor.values.numpy() for tensor in tensors])
        lengths = np.concatenate([tensor.row_lengths().numpy() for tensor in tensors])
        return values, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return np.concatenate([tensor.numpy() for tensor in tensors])


def _take(values: Array, splits: Array, chosen: Array) -> tuple[Array, Array]:
    pieces = [values[splits[row] : splits[row + 1]] for row in chosen]
    lengths = [len(piece) for piece in pieces]
    return np.concatenate(pieces), np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def _cut(column: Array | tuple[Array, Array], start: int, stop: int) -> Any:
    if not isinstance(column, tuple):
        return tf.constant(column[start:stop])
    values, splits = column
    inner = values[splits[start] : splits[stop]]
    return tf.RaggedTensor.from_row_splits(inner, splits[start : stop + 1] - splits[start])
