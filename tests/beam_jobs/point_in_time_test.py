"""The definition of point-in-time correctness: rows by hand, histories written out by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.beam_jobs.job import (
    DAY,
    anchors,
    configure,
    decoded,
    describe,
    impression,
    run_job,
    write_log,
)

ANN, BEN = 1, 2
NOON = 12 * 3_600_000

# Ann's day. Three rows share noon; 30 at noon is written twice; rows come out of order.
ROWS = [
    impression(ANN, 30, NOON, clicked=1),
    impression(ANN, 10, 1000, clicked=0),
    impression(ANN, 20, NOON, clicked=0),
    impression(ANN, 40, NOON + 1, clicked=0, hated=1),
    impression(ANN, 30, NOON, clicked=1),
    impression(ANN, 20, 2000, clicked=1, liked=1),
    impression(ANN, 10, NOON, clicked=0),
    impression(ANN, 50, NOON + 2, clicked=1),
    impression(BEN, 10, NOON + 1, clicked=1),
]

HATE, LIKE, CLICK, EXPOSURE, SEEN = 1, 2, 3, 4, 5

# (user, item, time): (items of the history, actions of the history)
EXPECTED = {
    "typed_exposure": {
        (ANN, 10, 1000): ([], []),
        (ANN, 20, 2000): ([10], [EXPOSURE]),
        # The three at noon see nothing of each other.
        (ANN, 10, NOON): ([10, 20], [EXPOSURE, LIKE]),
        (ANN, 20, NOON): ([10, 20], [EXPOSURE, LIKE]),
        (ANN, 30, NOON): ([10, 20], [EXPOSURE, LIKE]),
        # A millisecond later all three are history, in order of item, the duplicate once.
        (ANN, 40, NOON + 1): (
            [10, 20, 10, 20, 30],
            [EXPOSURE, LIKE, EXPOSURE, EXPOSURE, CLICK],
        ),
        # Six earlier events are cut to the last five.
        (ANN, 50, NOON + 2): (
            [20, 10, 20, 30, 40],
            [LIKE, EXPOSURE, EXPOSURE, CLICK, HATE],
        ),
        # Ben sees nothing of Ann.
        (BEN, 10, NOON + 1): ([], []),
    },
    # Filter first, then cut: what the protocol drops takes no place in the history.
    "click_only": {
        (ANN, 10, 1000): ([], []),
        (ANN, 20, 2000): ([], []),
        (ANN, 10, NOON): ([20], [LIKE]),
        (ANN, 20, NOON): ([20], [LIKE]),
        (ANN, 30, NOON): ([20], [LIKE]),
        (ANN, 40, NOON + 1): ([20, 30], [LIKE, CLICK]),
        (ANN, 50, NOON + 2): ([20, 30], [LIKE, CLICK]),
        (BEN, 10, NOON + 1): ([], []),
    },
}
EXPECTED["positive_only"] = EXPECTED["click_only"]
EXPECTED["all_exposure"] = EXPECTED["typed_exposure"]

Key = tuple[int, int, int]


def run(folder: Path, rows: list[dict[str, Any]], **config: Any) -> dict[Key, dict[str, list[Any]]]:
    """Runs the job; examples of the rows by user, item and time since the start."""
    write_log(folder / "raw", rows + anchors())
    run_job(describe(), configure(folder / "raw", **config), folder / "out")
    start = impression(0, 0, 0)["ts"]
    return {
        (e["user_id"][0], e["item_id"][0], e["timestamp"][0] - start): e
        for split in decoded(folder / "out").values()
        for e in split
        if e["user_id"][0] != 900
    }


@pytest.mark.parametrize("protocol", sorted(EXPECTED))
def test_a_history_holds_strictly_earlier_events_only(tmp_path: Path, protocol: str) -> None:
    examples = run(tmp_path, ROWS, history={"protocol": protocol, "max_length": 5})

    found = {key: (e["history_item_id"], e["history_action"]) for key, e in examples.items()}
    assert found == EXPECTED[protocol]


def test_the_total_counts_events_beyond_the_cut(tmp_path: Path) -> None:
    examples = run(tmp_path, ROWS, history={"max_length": 2})

    last = examples[ANN, 50, NOON + 2]
    assert last["history_item_id"] == [30, 40]
    assert last["history_length"] == [2]
    assert last["history_length_total"] == [6]
    assert last["length_bucket"] == ["1-2"]
    assert examples[ANN, 10, 1000]["history_length_total"] == [0]


def test_item_density_counts_training_samples_only(tmp_path: Path) -> None:
    rows = [
        impression(ANN, 10, 0),
        impression(BEN, 10, 5000),
        # On the first millisecond of validation and of test.
        impression(ANN, 10, 2 * DAY, 1),
        impression(ANN, 10, 3 * DAY, 1),
        impression(ANN, 77, 3 * DAY, 1),
    ]
    examples = run(tmp_path, rows)

    counts = {key: example["item_train_count"] for key, example in examples.items()}
    assert counts == {
        (ANN, 10, 0): [2],
        (BEN, 10, 5000): [2],
        (ANN, 10, 2 * DAY): [2],
        (ANN, 10, 3 * DAY): [2],
        (ANN, 77, 3 * DAY): [0],
    }
    assert examples[ANN, 77, 3 * DAY]["density_bucket"] == ["0"]


def test_a_cut_belongs_to_the_split_that_begins_there(tmp_path: Path) -> None:
    rows = [
        impression(ANN, item, day * DAY + offset)
        for day in (2, 3)
        for item, offset in ((10, -1), (20, 0))
    ]
    write_log(tmp_path / "raw", rows + anchors())
    run_job(describe(), configure(tmp_path / "raw"), tmp_path / "out")

    found = {
        split: [
            (e["item_id"][0], e["history_length"][0]) for e in examples if e["user_id"] == [ANN]
        ]
        for split, examples in decoded(tmp_path / "out").items()
    }
    assert {split: sorted(rows) for split, rows in found.items()} == {
        "train": [(10, 0)],
        "validation": [(10, 2), (20, 1)],
        "test": [(20, 3)],
    }
