"""Tests of starting from an earlier model, against mappings written by hand."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.plan import Category, RankerPlan
from models.ranker import Ranker
from models.warm_start import map_rows, warm_start, write_warm_start
from models.warm_start_index import (
    FOLDER,
    WEIGHTS_FILE,
    WarmStartError,
    ledger_path,
    read_index,
)
from models.weight_places import weights_by_place
from schemas.dataset_sections import FieldType
from tests.models import tiny_training

EARLIER = {
    "item_id": [b"i1", b"i2", b"", b"i4"],
    "category": [b"c1", b"c2", b"c3", b"c4"],
    "fields": [b"surface=a", b"surface=b", b"surface=new\nline", b"surface=d"],
}
TODAY = {
    "item_id": [b"i4", b"new", b"i1", b"i9", b""],
    "category": [b"c1", b"c2", b"c3", b"c4", b"c5"],
    "fields": [b"surface=x", b"surface=y", b"surface=z", b"surface=new\nline", b"surface=b"],
}
# Rows of the stacked tables, by hand: padding and unknown, then the entries, a vocabulary after
# the other. Earlier: item_id 0-5, category 6-11. Today: item_id 0-6, category 7-13.
ITEM_ROWS = {0: 0, 1: 1, 2: 5, 4: 2, 6: 4, 7: 6, 8: 7, 9: 8, 10: 9, 11: 10, 12: 11}
FIELD_ROWS = {0: 0, 1: 1, 5: 4, 6: 3}


def make_ranker(entries: int, **model: Any) -> Ranker:
    return tiny_training.make_factory(model, entries=entries).make()


@pytest.fixture(scope="module")
def earlier() -> Ranker:
    ranker = make_ranker(4)
    random = np.random.default_rng(1)
    for weight in ranker.weights:
        weight.assign(random.normal(size=weight.shape))
    return ranker


@pytest.fixture(scope="module")
def model(earlier: Ranker, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = str(tmp_path_factory.mktemp("model"))
    write_warm_start(folder, earlier, EARLIER, "log of yesterday")
    return folder


def test_rows_are_mapped_by_key(earlier: Ranker, model: str) -> None:
    ranker = make_ranker(5)
    initial = [np.array(table) for table in ranker.tables]
    report = warm_start(ranker, TODAY, model)
    for number, rows in enumerate((ITEM_ROWS, FIELD_ROWS)):
        table, before = ranker.tables[number].numpy(), earlier.tables[number].numpy()
        for row in range(len(table)):
            wanted = before[rows[row]] if row in rows else initial[number][row]
            np.testing.assert_array_equal(table[row], wanted, err_msg=f"row {row}")
    counts = {name: (c.kept, c.new, c.dropped) for name, c in report.rows.items()}
    assert counts == {"item_id": (3, 2, 1), "category": (4, 1, 0), "fields": (2, 3, 2)}


def test_rows_of_hashed_categories_need_the_same_buckets(tmp_path: Path) -> None:
    def hashed(items: int, surfaces: int) -> RankerPlan:
        plan = tiny_training.PLAN
        return dataclasses.replace(
            plan,
            item=dataclasses.replace(plan.item, buckets=items),
            categories=(
                dataclasses.replace(plan.categories[0], buckets=surfaces),
                Category(name="hour", type=FieldType.INT),
            ),
        )

    def make(plan: RankerPlan, hours: int) -> Ranker:
        sizes = {
            "item_id": plan.item.buckets or 0, "category": 4,
            "fields": sum(plan.hashed("fields").values()) + hours,
        }  # fmt: skip
        factory = tiny_training.make_factory()
        return dataclasses.replace(factory, plan=plan, vocabulary_sizes=sizes).make()

    earlier = make(hashed(6, 3), hours=2)
    for weight in earlier.weights:
        weight.assign(np.random.default_rng(1).normal(size=weight.shape))
    words = {"category": EARLIER["category"], "fields": [b"hour=1", b"hour=2"]}
    write_warm_start(str(tmp_path), earlier, words, "")

    same = make(hashed(6, 3), hours=1)
    report = warm_start(same, {**words, "fields": [b"hour=2"]}, str(tmp_path))
    counts = {name: (c.kept, c.new, c.dropped) for name, c in report.rows.items()}
    assert counts == {
        "item_id": (6, 0, 0), "category": (4, 0, 0), "surface": (3, 0, 0), "fields": (1, 0, 1)
    }  # fmt: skip
    np.testing.assert_array_equal(same.tables[0], earlier.tables[0])
    # Padding, unknown, three buckets, then the vocabulary.
    np.testing.assert_array_equal(same.tables[1][:5], earlier.tables[1][:5])
    np.testing.assert_array_equal(same.tables[1][5], earlier.tables[1][6])

    other = make(hashed(7, 2), hours=2)
    before = [np.array(table) for table in other.tables]
    report = warm_start(other, words, str(tmp_path))
    assert report.not_taken == {
        "item_id": "hashed in 6 buckets there, hashed in 7 buckets here",
        "surface": "hashed in 3 buckets there, hashed in 2 buckets here",
    }
    np.testing.assert_array_equal(other.tables[0][2:9], before[0][2:9])
    np.testing.assert_array_equal(other.tables[1][2:4], before[1][2:4])
    np.testing.assert_array_equal(other.tables[1][4:], earlier.tables[1][5:])


def test_what_was_a_vocabulary_is_not_taken_as_buckets(model: str) -> None:
    plan = tiny_training.PLAN
    plan = dataclasses.replace(plan, item=dataclasses.replace(plan.item, buckets=4))
    ranker = dataclasses.replace(tiny_training.make_factory(entries=4), plan=plan).make()
    words = {name: EARLIER[name] for name in ("category", "fields")}
    report = warm_start(ranker, words, model)
    assert report.not_taken["item_id"] == "not hashed there, hashed in 4 buckets here"


def test_other_weights_are_copied_and_the_optimiser_is_not(earlier: Ranker, model: str) -> None:
    ranker = make_ranker(5)
    report = warm_start(ranker, TODAY, model)
    assert report.not_taken == {}
    tables = {table.ref() for table in ranker.tables}
    pairs = zip(weights_by_place(ranker).items(), weights_by_place(earlier).items(), strict=True)
    taken = [
        (place, np.array_equal(here, there))
        for (place, here), (_, there) in pairs
        if here.ref() not in tables
    ]
    assert taken == [(place, True) for place in report.taken]
    assert len(taken) == len(ranker.weights) - 2
    assert int(ranker.optimizer.iterations) == 0


def test_what_does_not_fit_is_reported(model: str, caplog: pytest.LogCaptureFixture) -> None:
    ranker = make_ranker(5, hidden_units=[8, 4], embedding_dim=8)
    before = {place: np.array(weight) for place, weight in weights_by_place(ranker).items()}
    with caplog.at_level(logging.INFO):
        report = warm_start(ranker, TODAY, model)
    assert report.rows == {}
    assert report.not_taken["item_id"] == "embeddings are 4 wide there, 8 here"
    assert "item_id was not taken: embeddings are 4 wide there, 8 here" in caplog.text
    [line] = [vars(record)["line"] for record in caplog.records if "line" in vars(record)]
    counts = f"{len(report.taken)} other weights taken, {len(report.not_taken)} not"
    assert line == f"warm start from {model}: no rows; {counts}"
    reasons = " ".join(report.not_taken.values())
    assert "shape [" in reasons
    assert "none in its place" in reasons
    for place, weight in weights_by_place(ranker).items():
        assert np.array_equal(weight.numpy(), before[place]) == (place not in report.taken), place


def test_all_weights_have_a_place(earlier: Ranker) -> None:
    places = weights_by_place(earlier)
    assert len(places) == len(earlier.weights)
    assert {weight.ref() for weight in places.values()} == {w.ref() for w in earlier.weights}
    assert "item_embedding/table" in places


def test_damaged_weights_are_refused(earlier: Ranker, tmp_path: Path) -> None:
    write_warm_start(str(tmp_path), earlier, EARLIER, "")
    path = tmp_path / FOLDER / WEIGHTS_FILE
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(WarmStartError, match=rf"^train.warm_start {tmp_path}: {path} is damaged"):
        warm_start(make_ranker(5), TODAY, str(tmp_path))
    path.unlink()
    with pytest.raises(WarmStartError, match=rf"{path}: No such file"):
        warm_start(make_ranker(5), TODAY, str(tmp_path))


def test_map_rows() -> None:
    np.testing.assert_array_equal(map_rows([b"a", b"b"], [b"b", b"z", b"a"]), [1, -1, 0])
    np.testing.assert_array_equal(map_rows([], [b"b"]), [-1])


def test_the_ledger_of_ids_is_kept_with_the_model(earlier: Ranker, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    ledger.write_bytes(b"counts")
    write_warm_start(str(tmp_path), earlier, EARLIER, "", str(ledger))
    assert Path(ledger_path(str(tmp_path))).read_bytes() == b"counts"
    digest = read_index(str(tmp_path))["id_ledger_digest"]
    ledger.write_bytes(b"other counts")
    write_warm_start(str(tmp_path), earlier, EARLIER, "", str(ledger))
    assert read_index(str(tmp_path))["id_ledger_digest"] != digest


def test_the_index_identifies_data_and_weights(model: str, tmp_path: Path) -> None:
    index = read_index(model)
    assert index["data_fingerprint"] == "log of yesterday"
    assert len(index["weights_digest"]) == 32
    with pytest.raises(WarmStartError, match=r"train.warm_start .*no readable .*index.json"):
        read_index(str(tmp_path))
