"""Side files: fields of users and items, looked up for whole columns at once."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_jobs.columns import ARROW_TYPES, convert, fill_missing, single
from beam_jobs.errors import InputError
from beam_jobs.reading import RawFile, read_table
from schemas.dataset_sections import Field, FieldType, SideTable

# No field can have this name.
KEY = "<key>"


def read_side(
    files: list[RawFile], side: SideTable, key_type: FieldType, max_invalid_share: float
) -> tuple[pa.Table, Counter[str]]:
    """Reads side files.

    Args:
        files: the files of one side.
        side: their columns.
        key_type: of the key.
        max_invalid_share: largest share of a column's values that are not of its type.

    Returns:
        A table of ``KEY`` and the fields, one row a key, the last one given; and counters
        ``invalid_values:<field>``, for the key by its column. Rows without a key are left out.

    Raises:
        InputError: more values of a column are not of its type, or there is no key at all.
    """
    columns = list(dict.fromkeys([side.key, *(item.source for item in side.fields)]))
    raw = read_table(files, columns)
    counts: Counter[str] = Counter()
    columns_read = [
        (KEY, side.key, key_type, ()),
        *((item.name, item.source, item.type, item.missing) for item in side.fields),
    ]
    table = {}
    for name, column, kind, missing in columns_read:
        found = single(raw.column(column))
        table[name], invalid = convert(found, kind, missing)
        counts[f"invalid_values:{side.key if name == KEY else name}"] += int(invalid.sum())
        if invalid.sum() > max_invalid_share * raw.num_rows:
            raise InputError(
                f"{files[0].path}: column {column!r}: {int(invalid.sum())} of {raw.num_rows} "
                f"values are no {kind.value}, such as {found[int(invalid.argmax())].as_py()!r}, "
                f"more than data.max_rejected_share ({max_invalid_share:g}) allows"
            )
    if raw.num_rows and table[KEY].null_count == raw.num_rows:
        raise InputError(f"{files[0].path}: column {side.key!r} holds no {key_type.value}")
    for item in side.fields:
        table[item.name] = fill_missing(table[item.name], item.type)
    result = pa.table(table)
    result = result.filter(pc.is_valid(result.column(KEY)))
    return last_of_each_key(result), counts


def last_of_each_key(table: pa.Table) -> pa.Table:
    """Keeps the last row of each key."""
    numbered = table.select([KEY]).append_column("row", pa.array(np.arange(table.num_rows)))
    last = numbered.group_by(KEY).aggregate([("row", "max")]).column("row_max")
    return table.take(single(last).sort()).combine_chunks()


def empty_side(fields: tuple[Field, ...], key_type: FieldType) -> pa.Table:
    """Returns a side table without rows."""
    schema = [(KEY, ARROW_TYPES[key_type]), *((f.name, ARROW_TYPES[f.type]) for f in fields)]
    return pa.schema(schema).empty_table()


def look_up(table: pa.Table, keys: pa.Array, fields: tuple[Field, ...]) -> dict[str, pa.Array]:
    """Returns the fields of each key; those of an unknown key are missing."""
    index = pc.index_in(keys, value_set=single(table.column(KEY)))
    return {
        item.name: fill_missing(single(table.column(item.name)).take(index), item.type)
        for item in fields
    }
