"""Tests of reading transformed examples in batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from models.config import ModelConfig
from models.inputs import count_records, list_files, make_dataset
from models.plan import FIELDS, NUMBERS, RankerPlan, make_plan
from tests.models import fixtures


@pytest.fixture(scope="module")
def plan() -> RankerPlan:
    return make_plan(fixtures.make_description(), ModelConfig(), "typed_exposure", 8)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, plan: RankerPlan) -> list[str]:
    """Three files of transformed rows, one compressed; the item id numbers the rows."""
    folder = tmp_path_factory.mktemp("transformed")
    random = np.random.default_rng(0)
    rows: list[dict[str, Any]] = []
    for index in range(50):
        length = int(random.integers(0, 4))
        rows.append(
            {
                "item_id": index,
                "category": 2,
                "history_item_id": list(range(length)),
                "history_category": [3] * length,
                "history_action": [1] * length,
                FIELDS: [2] * len(plan.categories),
                NUMBERS: [0.5] * len(plan.numbers),
                "label": float(index % 2),
                "user_group": index,
            }
        )
    return [
        fixtures.write_examples(folder / name, part)
        for name, part in [
            ("a", rows[:20]),
            ("b.gz", rows[20:45]),
            ("c", rows[45:]),
        ]
    ]


def read(files: list[str], plan: RankerPlan, **arguments: Any) -> list[int]:
    batches = make_dataset(files, plan, batch_size=7, **arguments)
    return [int(value) for batch in batches for value in batch["item_id"].numpy()]


def test_every_row_is_read_once(files: list[str], plan: RankerPlan) -> None:
    assert sorted(read(files, plan)) == list(range(50))
    assert sorted(read(files, plan, shuffle_seed=1, shuffle_buffer=10)) == list(range(50))


def test_order_follows_from_the_seed_alone(files: list[str], plan: RankerPlan) -> None:
    first = read(files, plan, shuffle_seed=1)
    assert first == read(files, plan, shuffle_seed=1)
    assert first != read(files, plan, shuffle_seed=2)
    assert read(files, plan) == read(files, plan)


def test_order_follows_from_names_and_contents_not_from_the_folder(
    files: list[str], plan: RankerPlan, tmp_path: Path
) -> None:
    expected = read(list_files([f"{Path(files[0]).parent}/*"], split="train"), plan, shuffle_seed=1)
    # The newest first, so that neither the folder's order nor the times are those of the names.
    for file in reversed(files):
        (tmp_path / Path(file).name).write_bytes(Path(file).read_bytes())
    copies = list_files([f"{tmp_path}/*"], split="train")
    assert read(copies, plan, shuffle_seed=1) == expected


def test_the_shares_of_all_devices_are_the_batches_of_one(
    files: list[str], plan: RankerPlan
) -> None:
    def batches(**arguments: Any) -> list[list[int]]:
        found = make_dataset(files, plan, batch_size=7, shuffle_seed=1, **arguments)
        return [batch["item_id"].numpy().tolist() for batch in found]

    whole = batches(skip_batches=2)
    one, two = (
        batches(skip_batches=2, shares=3, share=range(1)),
        batches(skip_batches=2, shares=3, share=range(1, 3)),
    )
    # 36 rows in batches of 7: the last batch has one row, so two of its shares are empty.
    assert [len(batch) for batch in whole] == [7] * 5 + [1]
    assert (len(one), len(two)) == (6, 12)
    for index, batch in enumerate(whole):
        assert batch[0::3] == one[index]
        assert batch[1::3] == two[2 * index]
        assert batch[2::3] == two[2 * index + 1]


def test_histories_stay_ragged(files: list[str], plan: RankerPlan) -> None:
    batch = next(iter(make_dataset(files, plan, batch_size=7)))
    assert isinstance(batch["history_item_id"], tf.RaggedTensor)
    np.testing.assert_array_equal(
        batch["history_item_id"].row_splits, batch["history_action"].row_splits
    )
    assert batch[FIELDS].shape == (7, len(plan.categories))


def test_records_are_counted_without_parsing_them(tmp_path: Path) -> None:
    for name, records in (("plain", 3), ("packed.gz", 5), ("empty", 0)):
        with tf.io.TFRecordWriter(
            str(tmp_path / name), "GZIP" if name.endswith(".gz") else ""
        ) as file:
            for _ in range(records):
                file.write(b"no example")
    assert count_records([str(path) for path in tmp_path.iterdir()]) == 8


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"train split: no example files match .*nothing"):
        list_files([str(tmp_path / "nothing*")], split="train")
