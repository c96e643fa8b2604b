"""Tests of Transform under admission and expiry: two days, against counts by hand."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import farmhash
import pytest
import tensorflow as tf
import tensorflow_transform as tft
from google.protobuf import text_format
from tfx.types import standard_artifacts

from components.transform import admission
from components.transform.executor import Executor
from models.hashing import COLLISIONS_FILE
from models.id_ledger import MILLISECONDS_A_DAY, REPORT_FILE, SCHEMA, Decision, IdCounts
from models.warm_start_index import LEDGER_FILE
from tests.models import fixtures

START = 1_750_000_000_000
MIN_COUNT, EXPIRY_DAYS = 2, 3
FIELD_COLUMNS = ["surface", "hour", "author"]
BUCKETS = {"category": 4, "author": 3}


def day(number: int, items: list[int]) -> list[fixtures.Row]:
    """Rows of a day, each with one event of history, the item before."""
    rows = fixtures.make_rows(len(items), seed=number)
    for index, (row, item) in enumerate(zip(rows, items, strict=True)):
        before = items[index - 1]
        row.update(
            timestamp=START + number * MILLISECONDS_A_DAY + index,
            item_id=item, history_item_id=[before], history_category=[f"c{before % 3}"],
            history_action=[1], history_length=1,
        )  # fmt: skip
    return rows


# Items 3 and 5 are seen on day 0 and never again.
DAYS = [day(0, [1, 1, 3, 1, 2, 5]), day(6, [6, 1, 2, 2, 4, 4, 1])]


@pytest.fixture
def transform(tmp_path: Path, make_artifact: Callable[..., Any]) -> Callable[..., Path]:
    """Runs the executor on a training split; returns the folder of the graph."""
    schema = make_artifact(standard_artifacts.Schema, tmp_path / "schema")
    (tmp_path / "schema").mkdir()
    text = text_format.MessageToString(fixtures.make_schema())
    (tmp_path / "schema" / "schema.pbtxt").write_text(text, encoding="utf-8")
    config = fixtures.custom_config(
        fixtures.make_description(),
        {
            "vocabulary_min_count": MIN_COUNT,
            "vocabulary_expiry_days": EXPIRY_DAYS,
            "hash_buckets": BUCKETS,
        },
    )

    def run(name: str, rows: list[fixtures.Row], earlier: Path | None) -> Path:
        splits = ["train", "validation"]
        examples = make_artifact(standard_artifacts.Examples, tmp_path / name / "raw", splits)
        for split in splits:
            fixtures.write_examples(tmp_path / name / "raw" / f"Split-{split}" / "part", rows)
        outputs = {
            "transform_graph": [
                make_artifact(standard_artifacts.TransformGraph, tmp_path / name / "graph")
            ],
            "transformed_examples": [
                make_artifact(standard_artifacts.Examples, tmp_path / name / "examples")
            ],
            "updated_analyzer_cache": [
                make_artifact(standard_artifacts.TransformCache, tmp_path / name / "cache")
            ],
        }
        ledger = {"id_ledger": str(earlier / LEDGER_FILE)} if earlier else {}
        context = Executor.Context(
            beam_pipeline_args=[f"--runner={fixtures.RUNNER}", "--sdk_container_image=unused"],
            tmp_dir=str(tmp_path / "tmp"),
            unique_id=name,
        )
        properties = {
            "preprocessing_fn": "models.transform.preprocessing_fn",
            "custom_config": json.dumps({**config, **ledger}),
            "splits_config": json.dumps({"analyze": ["train"], "transform": splits}),
            "disable_statistics": 1,
            "force_tf_compat_v1": 0,
        }
        Executor(context).Do({"examples": [examples], "schema": [schema]}, outputs, properties)
        return tmp_path / name / "graph"

    return run


def items_of(graph: Path) -> list[int]:
    return [int(entry) for entry in tft.TFTransformOutput(str(graph)).vocabulary_by_name("item_id")]


def test_ids_are_admitted_over_days_and_expire(
    transform: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    first = transform("first", DAYS[0], None)
    # Counted as target and as the event before it: 1 six times, 3 twice, 5 and 2 twice.
    wanted = Counter(row["item_id"] for row in DAYS[0])
    wanted += Counter(row["history_item_id"][0] for row in DAYS[0])
    assert wanted == {1: 6, 2: 2, 3: 2, 5: 2}
    assert items_of(first) == [1, 2, 3, 5]

    # The rows of the first day are trained on again, and count once.
    with caplog.at_level(logging.INFO):
        second = transform("second", DAYS[0] + DAYS[1], first)
    assert items_of(second) == [1, 2, 4, 6]
    report = json.loads((second / REPORT_FILE).read_text())
    assert report["item_id"] == {"admitted": 4, "kept": 2, "new": 2, "expired": 2, "waiting": 0}
    line = "vocabulary item_id: 4 ids admitted, 2 of them new; 2 kept; 2 expired, not seen for 3"
    assert line in caplog.text

    found = transformed(second)
    order = items_of(second)
    rows = DAYS[0] + DAYS[1]
    assert [example["item_id"] for example in found] == [
        [2 + order.index(row["item_id"]) if row["item_id"] in order else 1] for row in rows
    ]
    sizes = tft.TFTransformOutput(str(second))
    assert sizes.vocabulary_size_by_name("item_id") == 4

    # Hashed tables: a row a bucket, no vocabulary, the others of ``fields`` behind them.
    assert sizes.vocabulary_file_by_name("category") is None
    for example, row in zip(found, rows, strict=True):
        category = bucket(row["category"], 4)
        assert example["category"] == [2 + category]
        assert example["history_category"] == [2 + bucket(row["history_category"][0], 4)]
        author = 0 if row["author"] == -1 else 2 + bucket(row["author"], 3)
        columns = dict(zip(FIELD_COLUMNS, example["fields"], strict=True))
        assert columns["author"] == author
        assert columns["surface"] in (0, 1) or columns["surface"] >= 2 + 3
    report = json.loads((second / COLLISIONS_FILE).read_text())
    ids = {row["author"] for row in rows} - {-1}
    taken = Counter(bucket(author, 3) for author in ids)
    shared = sum(count for count in taken.values() if count > 1)
    assert report["author"] == {
        "ids": len(ids), "buckets": 3, "used": len(taken),
        "measured_share": pytest.approx(shared / len(ids)),
        "expected_share": pytest.approx(1 - (2 / 3) ** (len(ids) - 1)),
    }  # fmt: skip
    assert f"hashed table author: {len(ids)} ids in 3 buckets, " in caplog.text
    [fields] = [name for name in report if name not in ("author",)]
    assert (fields, report[fields]["ids"]) == ("category", 3)


def transformed(graph: Path) -> list[dict[str, list[int]]]:
    """The integer features of the transformed training examples."""
    [path] = (graph.parent / "examples" / "Split-train").iterdir()
    records = tf.data.TFRecordDataset(str(path), "GZIP" if path.suffix == ".gz" else "")
    examples = [tf.train.Example.FromString(record.numpy()) for record in records]
    return [
        {name: list(feature.int64_list.value) for name, feature in example.features.feature.items()}
        for example in examples
    ]


def bucket(value: str | int, buckets: int) -> int:
    """FarmHash's fingerprint, by the package of that name."""
    return int(farmhash.fingerprint64(str(value)) % buckets)


@pytest.mark.parametrize(("days", "told"), [(1, "1 day;"), (2, "2 days;")])
def test_the_log_counts_days_as_people_do(
    days: int, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    counts = IdCounts(admitted=1, kept=1, new=0, expired=0, waiting=0)
    with caplog.at_level(logging.INFO):
        admission._log(Decision(SCHEMA.empty_table(), {}, {"item_id": counts}), days)
    assert f"not seen for {told}" in caplog.text
