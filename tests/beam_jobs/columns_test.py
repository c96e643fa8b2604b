from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_jobs.columns import concat, convert, from_ipc, hashes, mix, ordinals, to_ipc
from schemas.dataset_sections import FieldType

INT, STRING, FLOAT = FieldType.INT, FieldType.STRING, FieldType.FLOAT
SNOWFLAKE = 7_123_456_789_012_345_678


@pytest.mark.parametrize(
    ("column", "kind", "missing", "expected", "invalid"),
    [
        (pa.array(["1", " 2 ", "+3", "4.0", "", None]), INT, (), [1, 2, 3, 4, None, None], []),
        (pa.array(["x", "1.5", "1e3", "0x1F", "5"]), INT, (), [None] * 4 + [5], [0, 1, 2, 3]),
        # An id of 19 digits means the same beside a value that is no number.
        (pa.array([str(SNOWFLAKE), "?"]), INT, (), [SNOWFLAKE, None], [1]),
        (pa.array([str(2**63 - 1), str(2**63), "?"]), INT, (), [2**63 - 1, None, None], [1, 2]),
        (pa.array([1.0, 2.5, float("nan"), 1e300]), INT, (), [1, None, None, None], [1, 3]),
        (pa.array([1.0, float("nan")]), STRING, (), ["1", None], []),
        (pa.array([1.5, float("nan")]), FLOAT, (), [1.5, None], []),
        (pa.array(np.array([1.5, np.nan], np.float16)), STRING, (), ["1.5", None], []),
        (pa.array([Decimal("1.25"), Decimal(-4), None]), FLOAT, (-4,), [1.25, None, None], []),
        (pa.array([Decimal(SNOWFLAKE), None]), INT, (), [SNOWFLAKE, None], []),
        (pa.array([Decimal("1.5"), Decimal("2.0")]), INT, (), [None, 2], [0]),
        (pa.array([True, False]), INT, (-124,), [1, 0], []),
        (pa.array([132, 4], pa.uint8()), INT, (-124,), [132, 4], []),
        (pa.array([2**63 - 1, 2**64 - 1], pa.uint64()), INT, (), [2**63 - 1, None], [1]),
        (pa.array([5.0, 12345678901.0, 0.5]), STRING, (), ["5", "12345678901", "0.5"], []),
        (pa.array(["-124", "-124.0", "3"]), INT, (-124,), [None, None, 3], []),
        (pa.array([-124.0, 3.0]), INT, (-124,), [None, 3], []),
        (pa.array([-124, 3]), STRING, ("-124",), [None, "3"], []),
        (pa.array(["UNKNOWN", "a", ""]), STRING, ("UNKNOWN",), [None, "a", None], []),
        (pa.array(["a", None]).dictionary_encode(), STRING, (), ["a", None], []),
        (pa.array(["1.5", "nan", "inf", "-2"]), FLOAT, (), [1.5, None, None, -2.0], [1, 2]),
        (pa.array(["1.5", "?"]), FLOAT, (), [1.5, None], [1]),
        (pa.array([1.5, float("inf")]), FLOAT, (), [1.5, None], [1]),
        (pa.array([b"\xff", b"a"]), STRING, (), [None, "a"], [0]),
        (pa.array([b"\xff", b"7", b"", None]), INT, (), [None, 7, None, None], [0]),
        (pa.nulls(2), INT, (), [None, None], []),
        (pa.array([[1], [2]]), INT, (), [None, None], [0, 1]),
        (pa.array([datetime.date(2024, 1, 1)]), INT, (), [None], [0]),
    ],
)  # fmt: skip
def test_values_are_converted_or_named_invalid(
    column: pa.Array,
    kind: FieldType,
    missing: tuple[str | int, ...],
    expected: list[Any],
    invalid: list[int],
) -> None:
    converted, bad = convert(column, kind, missing)
    assert converted.to_pylist() == expected
    assert np.flatnonzero(bad).tolist() == invalid


TEXTS = st.one_of(
    st.sampled_from(["", " 1", "+1", "1.0", "0x1F", "nan", "-124", "1e5", "inf", "007", "1_0"]),
    st.integers(-(2**64), 2**64).map(str),
    st.text(max_size=3),
)


@settings(max_examples=200)
@given(st.lists(TEXTS, max_size=8), st.sampled_from([INT, FLOAT, STRING]))
def test_a_value_means_the_same_whatever_stands_beside_it(
    texts: list[str], kind: FieldType
) -> None:
    together, invalid = convert(pa.array(texts, pa.string()), kind, (-124,))
    alone = [convert(pa.array([text], pa.string()), kind, (-124,)) for text in texts]
    assert together.to_pylist() == [values[0].as_py() for values, _ in alone]
    assert invalid.tolist() == [bool(bad[0]) for _, bad in alone]


@settings(max_examples=200)
@given(st.lists(st.one_of(st.integers(-(2**63), 2**63 - 1), st.none()), max_size=8))
def test_integers_survive_as_text(values: list[int | None]) -> None:
    texts = pa.array([None if v is None else str(v) for v in values], pa.string())
    assert convert(texts, INT)[0].to_pylist() == values


@settings(max_examples=200)
@given(st.lists(st.text(max_size=4)) | st.lists(st.integers(-(2**63), 2**63 - 1)))
def test_ordinals_sort_as_the_values_do(values: list[Any]) -> None:
    kind = pa.int64() if values and isinstance(values[0], int) else pa.string()
    codes = ordinals(pa.array(values, kind))
    keys = [v if isinstance(v, int) else v.encode("utf-8", "surrogatepass") for v in values]
    ranks = {key: rank for rank, key in enumerate(sorted(set(keys)))}
    assert np.unique(codes, return_inverse=True)[1].tolist() == [ranks[key] for key in keys]


def test_hashes_do_not_change_from_run_to_run() -> None:
    assert mix(hashes(pa.array([1, 2]))).tolist() == [13830413928045401970, 4689417271487893854]
    assert (
        hashes(pa.array(["b", "a", "b"])).tolist()
        == hashes(pa.array(["a", "b"]))[[1, 0, 1]].tolist()
    )
    assert hashes(pa.array([], pa.string())).tolist() == []


def test_tables_survive_serialisation() -> None:
    table = pa.table({"a": [1, 2, None], "b": ["x", None, "ü"]})
    assert from_ipc(to_ipc(table)).equals(table)
    assert concat([to_ipc(table.slice(0, 1)), to_ipc(table.slice(1))]).equals(table)
