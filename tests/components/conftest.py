"""Examples and artifacts in a temporary folder, for tests of executors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

Columns = Mapping[str, Sequence[Any]]


@pytest.fixture(scope="session")
def write_split() -> Callable[[Path, str, Columns], None]:
    """Writes columns of values, or of lists of values, as the examples of a split."""

    def write(folder: Path, split: str, columns: Columns) -> None:
        import pyarrow as pa
        import tensorflow as tf
        from tfx_bsl.coders import example_coder

        arrays = {}
        for name, values in columns.items():
            lists = [value if isinstance(value, list) else [value] for value in values]
            arrays[name] = pa.array(lists)
            kind = arrays[name].type.value_type
            if pa.types.is_floating(kind):
                arrays[name] = arrays[name].cast(pa.list_(pa.float32()))
            elif pa.types.is_string(kind):
                arrays[name] = arrays[name].cast(pa.list_(pa.binary()))
        records = pa.RecordBatch.from_pydict(arrays)
        target = folder / f"Split-{split}"
        target.mkdir(parents=True)
        path = str(target / "examples-00000-of-00001.gz")
        with tf.io.TFRecordWriter(path, options="GZIP") as writer:
            for example in example_coder.RecordBatchToExamplesEncoder().encode(records):
                writer.write(example)

    return write


@pytest.fixture(scope="session")
def make_artifact() -> Callable[..., Any]:
    """Makes an artifact of a type at a folder, with split names if given."""

    def make(kind: Any, uri: Path, splits: Sequence[str] | None = None) -> Any:
        from tfx.types import artifact_utils

        artifact = kind()
        artifact.uri = str(uri)
        if splits is not None:
            artifact.split_names = artifact_utils.encode_split_names(list(splits))
        return artifact

    return make
