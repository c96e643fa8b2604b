"""The shipped descriptions on the logs they are for, checked against the raw files."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from beam_jobs.config import DataConfig
from schemas.dataset import load_description
from schemas.loading import build
from tests.beam_jobs.job import all_records, decoded, run_job

pytestmark = pytest.mark.real_data

SEEN, EXPOSURE, CLICK, STRONG = 5, 4, 3, 2
Examples = dict[str, list[dict[str, list[Any]]]]


def configure(folder: Path, dataset: str, **changes: Any) -> DataConfig:
    """The ``data`` section of a run on a folder."""
    return build(DataConfig, {"dataset": dataset, "path": str(folder)} | changes, where="test")


@pytest.fixture(scope="module")
def kuairand(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tenth of the users of KuaiRand-Pure, in the official layout."""
    source = shared_data / "kuairand_pure_slice"
    folder = tmp_path_factory.mktemp("kuairand")
    log = pd.read_csv(source / "log_standard_4_25_to_5_08_pure.csv", dtype=str)
    log[log.user_id.astype(int) % 10 == 0].to_csv(
        folder / "log_standard_4_25_to_5_08_pure.csv", index=False
    )
    for name in ("user_features_pure.csv", "video_features_basic_pure.csv"):
        (folder / name).symlink_to(source / name)
    (folder / "history_snapshot_4_24.parquet").symlink_to(source / "history_snapshot_4_24.parquet")
    return folder


@pytest.fixture(scope="module")
def examples(kuairand: Path, tmp_path_factory: pytest.TempPathFactory) -> Examples:
    """The examples of that tenth."""
    output = tmp_path_factory.mktemp("out") / "examples"
    run_job(load_description("kuairand_pure"), configure(kuairand, "kuairand_pure"), output)
    return decoded(output)


def test_rows_fall_into_the_splits_of_their_days(kuairand: Path, examples: Examples) -> None:
    log = pd.read_csv(kuairand / "log_standard_4_25_to_5_08_pure.csv")
    log = log.drop_duplicates(["user_id", "video_id", "time_ms", "is_click"])
    day = (pd.to_datetime(log.time_ms, unit="ms") + pd.Timedelta(hours=8)).dt.strftime("%m-%d")
    split = np.where(day < "05-05", "train", np.where(day == "05-05", "validation", "test"))
    assert {name: len(rows) for name, rows in examples.items()} == Counter(split.tolist())
    clicks = log.groupby(split).is_click.sum().to_dict()
    assert {n: sum(e["label"][0] for e in rows) for n, rows in examples.items()} == clicks


def test_histories_go_on_from_the_prior_history(kuairand: Path, examples: Examples) -> None:
    log = pd.read_csv(kuairand / "log_standard_4_25_to_5_08_pure.csv")
    prior = pq.read_table(kuairand / "history_snapshot_4_24.parquet").to_pandas()
    prior = prior.set_index("user_id")
    everything = [e for rows in examples.values() for e in rows]
    busy = log[log.user_id.isin(prior.index)].user_id.value_counts().index[:5]
    checked = 0
    for user in [*busy, *log[log.user_id.isin(prior.index)].user_id.unique()[:5]]:
        before = prior.loc[user]
        rows = log[log.user_id == user].drop_duplicates(["video_id", "time_ms", "is_click"])
        rows = rows.sort_values(["time_ms", "video_id", "is_click"])
        for example in (e for e in everything if e["user_id"] == [user]):
            earlier = rows[rows.time_ms < example["timestamp"][0]]
            watched = list(before.watch_seq)
            seen_first = [i for i in before.like_seq if i not in watched]
            long_first = [
                i for i in before.long_watch_seq if i not in watched and i not in before.like_seq
            ]
            items = [*seen_first, *long_first, *watched]
            actions = [
                STRONG if i in before.like_seq else CLICK if i in before.long_watch_seq else SEEN
                for i in items
            ]
            for row in earlier.itertuples():
                strong = row.is_like or row.is_follow or row.is_comment or row.is_forward
                light = CLICK if row.is_click or row.long_view else EXPOSURE
                items.append(row.video_id)
                actions.append(1 if row.is_hate else STRONG if strong else light)
            assert example["history_item_id"] == items[-100:]
            assert example["history_action"] == actions[-100:]
            known = max(before.history_len, len(items) - len(earlier)) + len(earlier)
            assert example["history_length_total"] == [known]
            checked += 1
    assert checked > 50


def test_missing_values_of_the_official_files_are_missing(
    kuairand: Path, examples: Examples
) -> None:
    users = pd.read_csv(kuairand / "user_features_pure.csv").set_index("user_id")
    for example in examples["test"][:500]:
        user = users.loc[example["user_id"][0]]
        gap = user.onehot_feat4
        assert example["onehot_feat4"] == [-1 if pd.isna(gap) or gap == -124 else int(gap)]
        active = user.user_active_degree
        assert example["user_active_degree"] == ["" if active == "UNKNOWN" else active]
        fans = user.fans_user_num
        assert example["fans_user_num"] == ([] if fans == -124 else [fans])


@pytest.mark.parametrize("protocol", ["click_only", "positive_only"])
def test_without_the_snapshot_file_histories_begin_with_the_log(
    kuairand: Path, tmp_path: Path, protocol: str
) -> None:
    official = tmp_path / "official"
    official.mkdir()
    for path in kuairand.glob("*.csv"):
        (official / path.name).symlink_to(path.resolve())
    config = configure(official, "kuairand_pure", history={"protocol": protocol})
    run_job(load_description("kuairand_pure"), config, tmp_path / "out")

    for split, rows in decoded(tmp_path / "out").items():
        assert rows, split
        for example in rows:
            assert SEEN not in example["history_action"]
            assert example["history_length_total"][0] < 150
    first = [e for e in decoded(tmp_path / "out")["train"] if e["history_length"] == [0]]
    assert len(first) > 1000


@pytest.fixture(scope="module")
def retail(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A twentieth of the customers of Online Retail."""
    folder = tmp_path_factory.mktemp("retail")
    table = pd.read_parquet(shared_data / "online_retail" / "online_retail_slim.parquet")
    table[table.CustomerID % 20 == 0].to_parquet(folder / "online_retail_slim.parquet")
    return folder


def test_negatives_are_drawn_by_popularity_and_never_what_was_taken(
    retail: Path, tmp_path: Path
) -> None:
    description = load_description("online_retail")
    report = run_job(description, configure(retail, "online_retail", shards=3), tmp_path / "a")
    run_job(description, configure(retail, "online_retail", shards=1), tmp_path / "b")
    assert all_records(tmp_path / "a") == all_records(tmp_path / "b")

    rows = pd.read_parquet(retail / "online_retail_slim.parquet")
    assert report.counts["dropped:cancellation"] == int((rows.Quantity < 1).sum())
    found = decoded(tmp_path / "a")
    taken: Counter[Any] = Counter()
    negatives: Counter[Any] = Counter()
    baskets: dict[tuple[int, int], set[str]] = {}
    for split in found.values():
        for e in split:
            moment = e["user_id"][0], e["timestamp"][0]
            if e["label"] == [1]:
                baskets.setdefault(moment, set()).add(e["item_id"][0])
                # An invoice's lines share one time: none is in another's history.
    for name, split in found.items():
        for e in split:
            if e["label"] == [1]:
                taken[e["item_id"][0]] += name == "train"
                continue
            assert e["item_id"][0] not in baskets[e["user_id"][0], e["timestamp"][0]]
            negatives[e["item_id"][0]] += 1
    # Of four draws a positive some are lost to an equal draw in the same basket.
    positives = sum(report.positives.values())
    assert 3.5 * positives < sum(negatives.values()) <= 4 * positives
    # Items are in proportion to their training positives.
    assert set(negatives) <= {item for item, number in taken.items() if number}
    items = sorted(taken)
    expected = np.array([taken[i] for i in items], float)
    drawn = np.array([negatives[i] for i in items], float)
    assert np.corrcoef(expected, drawn)[0, 1] > 0.95
    top = expected >= np.quantile(expected, 0.9)
    assert drawn[top].sum() / drawn.sum() == pytest.approx(
        expected[top].sum() / expected.sum(), abs=0.05
    )
