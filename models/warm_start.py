"""Starts a training from the weights of an earlier model, whose vocabularies were others.

A model keeps what this needs in ``assets.extra/lengthwise_warm_start/``, apart from the variables
it serves with, which an export may round: ``weights.npz`` with all weights by their place in the
ranker, the vocabularies as one array of bytes and one of lengths each, and ``index.json``.

Rows of an embedding table are taken by key: the row that an id had before is the row it starts
with now, wherever the vocabulary has it. Those of a hashed category are taken if it has as many
buckets as before. Other weights are taken where the models have one of the
same place and shape. Optimiser state is not taken.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from models.embeddings import StackedEmbedding
from models.files import write_json
from models.plan import FIRST_INDEX, RankerPlan
from models.progress_lines import say
from models.ranker import Ranker
from models.warm_start_index import (
    FOLDER,
    INDEX_FILE,
    WEIGHTS_FILE,
    WarmStartError,
    ledger_path,
    read_index,
)
from models.weight_places import weights_by_place

_VOCABULARY = "vocabulary"

logger = logging.getLogger(__name__)


@dataclass(kw_only=True)
class RowCounts:
    """What became of the entries of a vocabulary.

    Attributes:
        kept: entries with the row they had before.
        new: entries that were not in the earlier vocabulary.
        dropped: entries of the earlier vocabulary that are no longer in it.
    """

    kept: int = 0
    new: int = 0
    dropped: int = 0


@dataclass(kw_only=True)
class WarmStartReport:
    """What a training took from an earlier model.

    Attributes:
        model: folder of that model.
        rows: by vocabulary, what became of its entries.
        taken: weights that were taken, but for tables.
        not_taken: by weight or vocabulary, why it was not taken.
    """

    model: str
    rows: dict[str, RowCounts] = field(default_factory=dict)
    taken: list[str] = field(default_factory=list)
    not_taken: dict[str, str] = field(default_factory=dict)

    @staticmethod
    def from_plain(plain: dict[str, Any]) -> WarmStartReport:
        """Reads what ``dataclasses.asdict`` gave."""
        rows = {name: RowCounts(**counts) for name, counts in plain["rows"].items()}
        return WarmStartReport(**{**plain, "rows": rows})


def write_warm_start(
    model: str,
    ranker: Ranker,
    vocabularies: Mapping[str, Sequence[bytes]],
    data_fingerprint: str,
    id_ledger: str = "",
) -> None:
    """Keeps what a later training needs with an exported model.

    Args:
        model: folder of the SavedModel.
        ranker: the exported ranker.
        vocabularies: entries by name, in the order of their indices.
        data_fingerprint: identifies the log it was trained on.
        id_ledger: file of the ledger of ids that the vocabularies come from; empty for none.
    """
    folder = os.path.join(model, FOLDER)
    os.makedirs(folder, exist_ok=True)
    arrays = {name: weight.numpy() for name, weight in weights_by_place(ranker).items()}
    for name, entries in vocabularies.items():
        joined = np.frombuffer(b"".join(entries), np.uint8)
        arrays[f"{_VOCABULARY}/{name}/bytes"] = joined
        arrays[f"{_VOCABULARY}/{name}/lengths"] = np.array([len(e) for e in entries], np.int32)
    path = os.path.join(folder, WEIGHTS_FILE)
    temporary = f"{path}.tmp"
    with open(temporary, "wb") as file:
        np.savez(file, **arrays)
    os.replace(temporary, path)
    index = {
        "data_fingerprint": data_fingerprint,
        "inputs": _inputs(ranker.plan),
        "tables": {place: table.offsets for place, table in _tables(ranker).items()},
        "hashed": {name: ranker.plan.hashed(name) for name in ranker.plan.tables},
        "weights_digest": _digest_file(path),
    }
    if id_ledger:
        shutil.copyfile(id_ledger, ledger_path(model))
        index["id_ledger_digest"] = _digest_file(id_ledger)
    write_json(os.path.join(folder, INDEX_FILE), index)


def warm_start(
    ranker: Ranker, vocabularies: Mapping[str, Sequence[bytes]], model: str
) -> WarmStartReport:
    """Gives a new ranker the weights of an earlier model, as far as they have a meaning in it.

    Args:
        ranker: built; what has no counterpart keeps its initial weights.
        vocabularies: its vocabularies, entries by name in the order of their indices.
        model: folder of the earlier SavedModel.

    Raises:
        WarmStartError: the folder is no model that keeps its weights, or they are damaged.
    """
    index = read_index(model)
    report = WarmStartReport(model=model)
    tables = _tables(ranker)
    with np.load(_checked_weights(model, index["weights_digest"])) as earlier:
        weights = {place: earlier[place] for place in index["tables"]}
        saved = _SavedTables(earlier, weights, index["tables"], index.get("hashed", {}))
        for table in tables.values():
            _take_rows(table, saved, ranker.plan, vocabularies, report)
        differences = _input_differences(index["inputs"], _inputs(ranker.plan))
        for place, weight in weights_by_place(ranker).items():
            if place in tables:
                continue
            if differences:
                report.not_taken[place] = f"the inputs differ: {differences}"
            elif place not in earlier:
                report.not_taken[place] = "the earlier model has none in its place"
            elif earlier[place].shape != tuple(weight.shape):
                report.not_taken[place] = (
                    f"shape {list(earlier[place].shape)} there, {list(weight.shape)} here"
                )
            else:
                weight.assign(earlier[place])
                report.taken.append(place)
    _log(report)
    return report


def _checked_weights(model: str, digest: str) -> str:
    """Returns the path of a model's weights, if they are those that its index was written for."""
    path = os.path.join(model, FOLDER, WEIGHTS_FILE)
    try:
        found = _digest_file(path)
    except OSError as error:
        raise WarmStartError(f"train.warm_start {model}: {path}: {error.strerror}") from error
    if found != digest:
        raise WarmStartError(
            f"train.warm_start {model}: {path} is damaged: it is not what {INDEX_FILE} beside it "
            "was written for; none or another exported model is accepted"
        )
    return path


def map_rows(earlier: Sequence[bytes] | pa.Array, entries: Sequence[bytes]) -> np.ndarray:
    """Finds each entry in an earlier vocabulary: its index there or -1, int64 [entries]."""
    found = pc.index_in(pa.array(entries, pa.large_binary()), pa.array(earlier, pa.large_binary()))
    return pc.fill_null(found, -1).to_numpy(zero_copy_only=False).astype(np.int64)


class _SavedTables(NamedTuple):
    """The tables of the earlier model.

    Attributes:
        archive: all arrays of that model.
        weights: tables by place, [rows, dim].
        offsets: by place of a table, the first row by name of what is stacked in it.
        hashed: by that name, the buckets of its hashed categories.
    """

    archive: Any
    weights: Mapping[str, np.ndarray]
    offsets: Mapping[str, Mapping[str, int]]
    hashed: Mapping[str, Mapping[str, int]]

    def find(self, name: str) -> tuple[np.ndarray, int] | None:
        """Returns the table that ``name`` is stacked in, [rows, dim], and its first row there."""
        for place, offsets in self.offsets.items():
            if name in offsets:
                return self.weights[place], offsets[name]
        return None


def _take_rows(
    table: StackedEmbedding,
    saved: _SavedTables,
    plan: RankerPlan,
    vocabularies: Mapping[str, Sequence[bytes]],
    report: WarmStartReport,
) -> None:
    """Takes the rows of a stacked table, one after the other of what is stacked in it."""
    values = table.table.numpy().copy()
    for name in table.sizes:
        found = saved.find(name)
        if found is None:
            report.not_taken[name] = "the earlier model has no such vocabulary"
            continue
        weights, there = found
        if weights.shape[1] != values.shape[1]:
            report.not_taken[name] = (
                f"embeddings are {weights.shape[1]} wide there, {values.shape[1]} here"
            )
            continue
        here = table.offsets[name]
        values[here : here + FIRST_INDEX] = weights[there : there + FIRST_INDEX]
        here, there = here + FIRST_INDEX, there + FIRST_INDEX
        hashed, hashed_there = plan.hashed(name), saved.hashed.get(name, {})
        _take_buckets(values[here:], weights[there:], hashed, hashed_there, report)
        here, there = here + sum(hashed.values()), there + sum(hashed_there.values())
        if name not in vocabularies:
            continue
        earlier = _read_vocabulary(saved.archive, name)
        rows = map_rows(earlier, vocabularies[name])
        known = np.flatnonzero(rows >= 0)
        values[here + known] = weights[there + rows[known]]
        report.rows[name] = RowCounts(
            kept=len(known), new=len(rows) - len(known), dropped=len(earlier) - len(known)
        )
    table.table.assign(values)


def _take_buckets(
    values: np.ndarray,
    weights: np.ndarray,
    hashed: Mapping[str, int],
    hashed_there: Mapping[str, int],
    report: WarmStartReport,
) -> None:
    """Takes the rows of hashed categories that have as many buckets as they had.

    Under another number an id has another row, so those rows mean nothing here.
    """
    starts = dict(zip(hashed_there, np.cumsum([0, *hashed_there.values()]), strict=False))
    here = 0
    for name, buckets in hashed.items():
        before = hashed_there.get(name)
        if before == buckets:
            values[here : here + buckets] = weights[starts[name] : starts[name] + buckets]
            report.rows[name] = RowCounts(kept=buckets)
        else:
            found = f"hashed in {before} buckets" if before else "not hashed"
            report.not_taken[name] = f"{found} there, hashed in {buckets} buckets here"
        here += buckets


def _read_vocabulary(archive: Any, name: str) -> list[bytes]:
    if f"{_VOCABULARY}/{name}/bytes" not in archive:
        return []
    joined = archive[f"{_VOCABULARY}/{name}/bytes"].tobytes()
    ends = np.cumsum(archive[f"{_VOCABULARY}/{name}/lengths"], dtype=np.int64)
    starts = np.concatenate([[0], ends[:-1]])
    return [joined[start:end] for start, end in zip(starts, ends, strict=True)]


def _tables(ranker: Ranker) -> dict[str, StackedEmbedding]:
    """Embedding layers by the place of their weight."""
    by_weight = {layer.table.ref(): layer for layer in ranker.embeddings}
    places = weights_by_place(ranker).items()
    return {place: by_weight[w.ref()] for place, w in places if w.ref() in by_weight}


def _inputs(plan: RankerPlan) -> dict[str, list[str]]:
    """What the inputs of the dense weights stand for, column by column."""
    return {
        "item_parts": [part.name for part in plan.item_parts],
        "categories": [category.name for category in plan.categories],
        "numbers": [f"{number.name} {number.scale.value}" for number in plan.numbers],
        "history_lists": list(plan.history_lists),
    }


def _input_differences(earlier: dict[str, list[str]], here: dict[str, list[str]]) -> str:
    return "; ".join(
        f"{name} {earlier.get(name)} there, {here[name]} here"
        for name in here
        if earlier.get(name) != here[name]
    )


def _digest_file(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()[:32]


def _log(report: WarmStartReport) -> None:
    rows = "; ".join(
        f"{name}: {counts.kept} rows kept, {counts.new} new, {counts.dropped} dropped"
        for name, counts in report.rows.items()
    )
    say(
        f"warm start from {report.model}: {rows or 'no rows'}; {len(report.taken)} other weights "
        f"taken, {len(report.not_taken)} not"
    )
    for name, reason in report.not_taken.items():
        logger.info("warm start: %s was not taken: %s", name, reason)
