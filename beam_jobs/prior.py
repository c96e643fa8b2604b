"""Prior history: what users saw before the log begins, without a time for each event."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_jobs.columns import ARROW_TYPES, convert, ordinals, single
from beam_jobs.config import HistoryConfig
from beam_jobs.errors import InputError
from beam_jobs.events import kept_by_protocol
from beam_jobs.normalise import UNKNOWN_LABEL
from beam_jobs.reading import RawFile, read_table
from schemas.dataset import DatasetDescription
from schemas.dataset_sections import FieldType


def prior_columns(description: DatasetDescription) -> list[str]:
    """Returns the columns that the prior history of a description reads."""
    prior = description.prior_history
    if prior is None:
        return []
    columns = [prior.key, *(sequence.column for sequence in prior.sequences)]
    return [*columns, prior.total] if prior.total else columns


def read_prior(
    files: list[RawFile], description: DatasetDescription, history: HistoryConfig
) -> tuple[pa.Table, pa.Table]:
    """Reads a prior history.

    Returns:
        The events a history may keep (``user``, ``item``, ``time``, ``label``, ``action``),
        with negative times that only give their order, and for each user how many events are
        ``known`` beyond them.

    Raises:
        InputError: a column is not a list of items, or a user is given twice.
    """
    prior = description.prior_history
    assert prior is not None
    raw = read_table(files, prior_columns(description))
    user, _ = convert(single(raw.column(prior.key)), description.user.type)
    if user.null_count:
        raise InputError(
            f"{files[0].path}: column {prior.key!r} holds values that are not "
            f"{description.user.type.value}"
        )
    if len(pc.unique(user)) < len(user):
        raise InputError(f"{files[0].path}: column {prior.key!r} names a user twice")

    row, rank, place, items = _flatten(files[0], raw, description)
    # Numbered from 0, so that no pair overflows however large the identifiers are.
    distinct, code = np.unique(ordinals(items), return_inverse=True)
    pair = row * max(len(distinct), 1) + code
    _, inverse = np.unique(pair, return_inverse=True)
    strongest = np.zeros(len(row), np.int64)
    np.maximum.at(strongest, inverse, rank)
    in_base = np.zeros(len(row), bool)
    np.logical_or.at(in_base, inverse, rank == 0)
    # Events of the base, and those that only stronger sequences name, before it.
    keep = (rank == 0) | (~in_base[inverse] & (rank == strongest[inverse]))
    action_of = np.array([description.action_id(s.action) for s in prior.sequences], np.int8)
    label_of = np.array(
        [UNKNOWN_LABEL if s.label is None else s.label for s in prior.sequences], np.int8
    )
    action = action_of[strongest[inverse]]
    label = label_of[strongest[inverse]]
    keep &= kept_by_protocol(label, action, history.protocol, description)

    chosen = np.flatnonzero(keep)
    order = chosen[np.lexsort((place[chosen], -rank[chosen], row[chosen]))]
    row = row[order]
    kept = np.bincount(row, minlength=len(user))
    from_end = _from_end(row)
    recent = from_end <= history.max_length
    order, row, from_end = order[recent], row[recent], from_end[recent]
    events = pa.table(
        {
            "user": user.take(pa.array(row)),
            "item": items.take(pa.array(order)),
            "time": pa.array(-from_end.astype(np.int64)),
            "label": pa.array(label[order]),
            "action": pa.array(action[order]),
        }
    )
    carried = np.bincount(row, minlength=len(user))
    known = kept
    if prior.total is not None:
        total, _ = convert(single(raw.column(prior.total)), FieldType.INT)
        known = np.maximum(np.asarray(pc.fill_null(total, 0)), kept)
    known = known - carried
    return events, pa.table({"user": user, "known": pa.array(known)})


def _flatten(
    file: RawFile, raw: pa.Table, description: DatasetDescription
) -> tuple[np.ndarray, np.ndarray, np.ndarray, pa.Array]:
    """Lays all list columns end to end: row, number of the sequence, place in it, item."""
    prior = description.prior_history
    assert prior is not None
    rows, ranks, places, items = [], [], [], []
    for rank, sequence in enumerate(prior.sequences):
        lists = single(raw.column(sequence.column))
        if pa.types.is_null(lists.type) or not len(lists):
            # Nobody has any, and what they would be a list of was not written.
            lists = pa.nulls(len(lists), pa.list_(pa.null()))
        if not (pa.types.is_list(lists.type) or pa.types.is_large_list(lists.type)):
            raise InputError(
                f"{file.path}: column {sequence.column!r} is {lists.type}, a list is expected"
            )
        values, _ = convert(pc.list_flatten(lists), description.item.type)
        if values.null_count:
            raise InputError(
                f"{file.path}: column {sequence.column!r} holds items that are not "
                f"{description.item.type.value}"
            )
        row = np.asarray(pc.list_parent_indices(lists)).astype(np.int64)
        rows.append(row)
        ranks.append(np.full(len(row), rank))
        places.append(np.arange(len(row)))
        items.append(values)
    kind = ARROW_TYPES[description.item.type]
    return (
        np.concatenate(rows),
        np.concatenate(ranks),
        np.concatenate(places),
        pa.concat_arrays([item.cast(kind) for item in items]),
    )


def _from_end(row: np.ndarray) -> np.ndarray:
    """Counts the entries of each run of equal rows from its end, beginning at 1."""
    if not len(row):
        return np.zeros(0, np.int64)
    last = np.append(np.flatnonzero(row[1:] != row[:-1]), len(row) - 1)
    return last[np.searchsorted(last, np.arange(len(row)))] - np.arange(len(row)) + 1
