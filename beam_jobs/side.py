"""Side files: fields of users and items, looked up for whole columns at once."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_jobs.columns import ARROW_TYPES, convert, fill_missing, single
from beam_jobs.errors import InputError
from beam_jobs.reading import RawFile, read_table
from schemas.dataset_sections import Field, FieldType, SideTable

KEY = "key"


def read_side(files: list[RawFile], side: SideTable, key_type: FieldType) -> pa.Table:
    """Reads side files as a table of ``key`` and the fields, one row a key, the last one given.

    Raises:
        InputError: a column holds no value of its type at all.
    """
    columns = list(dict.fromkeys([side.key, *(item.source for item in side.fields)]))
    raw = read_table(files, columns)
    key, invalid = convert(single(raw.column(side.key)), key_type)
    if raw.num_rows and key.null_count == raw.num_rows:
        raise InputError(f"{files[0].path}: column {side.key!r} holds no {key_type.value}")
    table = {KEY: key}
    for item in side.fields:
        values, invalid = convert(single(raw.column(item.source)), item.type, item.missing)
        if raw.num_rows and invalid.all():
            raise InputError(
                f"{files[0].path}: column {item.source!r} holds no {item.type.value}, "
                f"found {raw.column(item.source)[0].as_py()!r}"
            )
        table[item.name] = fill_missing(values, item.type)
    result = pa.table(table)
    result = result.filter(pc.is_valid(result.column(KEY)))
    return last_of_each_key(result)


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
