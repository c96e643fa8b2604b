"""The simulated log: its files, its shape, and its click rule against a slow reading of it."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_jobs.errors import InputError
from beam_jobs.simulate import SimulationReport, simulate
from beam_jobs.simulation import writing
from beam_jobs.simulation.process import DAY_MS, EXPOSURE, START_MS
from schemas.dataset import load_description

ROOT = Path(__file__).resolve().parents[2]


@dataclasses.dataclass(frozen=True)
class Simulated:
    """A simulated log read back."""

    folder: Path
    report: SimulationReport
    log: pa.Table
    truth: pa.Table

    def column(self, name: str) -> np.ndarray:
        table = self.log if name in self.log.column_names else self.truth
        return table[name].to_numpy()


def read_log(folder: Path) -> pa.Table:
    return pa.concat_tables(pq.read_table(file) for file in sorted(folder.glob("impressions*")))


def write(folder: Path, **size: int) -> Simulated:
    report = simulate(folder, **size)
    truth = pq.read_table(folder / "truth.parquet")
    return Simulated(folder, report, read_log(folder), truth)


@pytest.fixture(scope="module")
def default(tmp_path_factory: pytest.TempPathFactory) -> Simulated:
    return write(tmp_path_factory.mktemp("simulated") / "log")


@pytest.fixture
def two_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Simulated:
    monkeypatch.setattr(writing, "BLOCK_IMPRESSIONS", 3_000)
    monkeypatch.setattr(writing, "ROW_GROUP", 500)
    return write(tmp_path / "log", impressions=6_000)


def pairwise_auc(score: np.ndarray, label: np.ndarray) -> float:
    """The share of pairs of a click and a non-click in the right order, ties half."""
    negatives = np.sort(score[label == 0])
    positives = score[label == 1]
    below = np.searchsorted(negatives, positives, side="left")
    not_above = np.searchsorted(negatives, positives, side="right")
    return float(((below + not_above) / 2).mean() / negatives.size)


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_same_seed_and_size_write_the_same_bytes(tmp_path: Path) -> None:
    simulate(tmp_path / "a", impressions=5_000, seed=3)
    simulate(tmp_path / "b", impressions=5_000, seed=3)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_another_seed_makes_another_log(tmp_path: Path) -> None:
    first = write(tmp_path / "a", impressions=5_000, seed=3)
    second = write(tmp_path / "b", impressions=5_000, seed=4)
    assert not first.log.equals(second.log)


@pytest.mark.parametrize("impressions", [1_000, 1_001, 7_321])
def test_size_is_met_exactly(tmp_path: Path, impressions: int) -> None:
    made = write(tmp_path / "log", impressions=impressions)
    assert made.log.num_rows == made.truth.num_rows == made.report.impressions == impressions
    assert set(made.column("clicked").tolist()) == {0, 1}


@pytest.mark.parametrize("arguments", [{"impressions": 999}, {"impressions": 5_000, "seed": -1}])
def test_arguments_out_of_range_are_named(tmp_path: Path, arguments: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"(impressions 999|seed -1): at least"):
        simulate(tmp_path / "log", **arguments)


def test_default_size_has_heavy_users_and_a_small_median(default: Simulated) -> None:
    _, events = np.unique(default.column("user_id"), return_counts=True)
    assert (events > 1_000).sum() == default.report.users_over_1000 >= 5
    assert 20 <= np.median(events) <= 50
    assert events.size == default.report.users
    assert default.report.user_events["1.0"] == events.max()


def test_default_size_has_items_from_one_sample_to_thousands(default: Simulated) -> None:
    _, samples = np.unique(default.column("item_id"), return_counts=True)
    assert samples.min() == 1
    assert (samples == 1).sum() >= 50
    assert samples.max() >= 2_000
    assert samples.size == default.report.items
    assert default.report.item_samples["1.0"] == samples.max()


def test_click_rate_and_ceiling_are_in_the_intended_range(default: Simulated) -> None:
    assert default.report.click_rate == pytest.approx(default.column("clicked").mean())
    assert 0.2 <= default.report.click_rate <= 0.3
    assert 0.78 <= default.report.ceiling_auc <= 0.85


def test_published_figures_of_the_default_size_hold(default: Simulated) -> None:
    """The figures in docs/datasets.md; a hair's breadth is left for another processor's exp."""
    report = default.report
    assert report.click_rate == pytest.approx(0.2305, abs=2e-3)
    assert report.ceiling_auc == pytest.approx(0.8102, abs=2e-3)
    assert report.ceiling_auc_last_days == pytest.approx(0.8131, abs=4e-3)
    assert (report.users, report.users_over_1000) == (2_613, 9)
    assert (report.items, report.item_samples["1.0"]) == (3_819, 3_622)


def test_ceiling_is_the_auc_of_the_truth_file(default: Simulated) -> None:
    keys = ["user_id", "item_id", "time_ms", "position"]
    joined = default.log.join(default.truth, keys=keys, join_type="inner")
    assert joined.num_rows == default.log.num_rows
    probability, clicked = joined["probability"].to_numpy(), joined["clicked"].to_numpy()
    stated = json.loads((default.folder / "simulation.json").read_text())["report"]
    assert stated["ceiling_auc"] == pytest.approx(pairwise_auc(probability, clicked), abs=1e-9)
    last = joined["time_ms"].to_numpy() >= START_MS + 12 * DAY_MS
    assert stated["ceiling_auc_last_days"] == pytest.approx(
        pairwise_auc(probability[last], clicked[last]), abs=1e-9
    )


def test_true_probability_is_calibrated(default: Simulated) -> None:
    probability, clicked = default.column("probability"), default.column("clicked")
    for part in np.array_split(np.argsort(probability), 10):
        error = math.sqrt((probability[part] * (1 - probability[part])).sum()) / part.size
        assert abs(clicked[part].mean() - probability[part].mean()) < 4.5 * error


def test_times_lie_in_14_days_of_2026_and_pages_share_one(default: Simulated) -> None:
    time_ms, user = default.column("time_ms"), default.column("user_id")
    assert time_ms.min() >= START_MS
    assert time_ms.max() < START_MS + 14 * DAY_MS
    assert np.unique((time_ms - START_MS) // DAY_MS).size == 14
    _, page_size = np.unique(np.stack([user, time_ms]), axis=1, return_counts=True)
    assert page_size.max() <= EXPOSURE.page_max
    assert (page_size > 1).mean() > 0.5


def test_a_page_counts_positions_from_zero_and_shows_no_item_twice(default: Simulated) -> None:
    rows = np.stack([default.column(name) for name in ("user_id", "time_ms", "position")])
    rows = rows[:, np.lexsort(rows[::-1])]
    follows = (np.diff(rows[0]) == 0) & (np.diff(rows[1]) == 0)
    expected = np.where(follows, rows[2, :-1] + 1, 0)
    np.testing.assert_array_equal(rows[2, 1:], expected)
    keys = np.stack([default.column(name) for name in ("user_id", "time_ms", "item_id")])
    assert np.unique(keys, axis=1).shape == keys.shape


def test_items_appear_over_time(default: Simulated) -> None:
    item, day = default.column("item_id"), (default.column("time_ms") - START_MS) // DAY_MS
    first_week = set(item[day < 7].tolist())
    new = set(item[day >= 7].tolist()) - first_week
    assert len(new) > 300


def test_browsed_categories_of_heavy_users_drift(default: Simulated) -> None:
    items = pq.read_table(default.folder / "items.parquet", columns=["item_id", "category"])
    category_of = dict(zip(*(column.to_pylist() for column in items.columns), strict=True))
    user, counts = np.unique(default.column("user_id"), return_counts=True)
    overlap = []
    for heavy in user[counts > 1_000]:
        rows = np.flatnonzero(default.column("user_id") == heavy)
        rows = rows[np.argsort(default.column("time_ms")[rows])]
        category = [category_of.get(item, -1) for item in default.column("item_id")[rows].tolist()]
        early, late = (
            np.bincount(np.array(part) + 1, minlength=25) / len(part)
            for part in (category[:200], category[-200:])
        )
        overlap.append(np.minimum(early, late).sum())
    assert np.mean(overlap) < 0.6


def test_side_files_lack_some_users_items_and_values(default: Simulated) -> None:
    users = pq.read_table(default.folder / "users.parquet")
    items = pq.read_table(default.folder / "items.parquet")
    for table, key in ((users, "user_id"), (items, "item_id")):
        assert table.schema.field(key).type == pa.int64()
        known, logged = table[key].to_numpy(), np.unique(default.column(key))
        assert np.unique(known).size == known.size
        absent = ~np.isin(logged, known)
        assert 0.005 < absent.mean() < 0.05
    assert 0.03 < users["account_days"].null_count / users.num_rows < 0.07
    assert 0.05 < users["age_group"].to_pylist().count("unknown") / users.num_rows < 0.12
    assert 0.01 < items["duration_seconds"].null_count / items.num_rows < 0.06


def test_every_action_occurs_and_is_consistent(default: Simulated) -> None:
    clicked = default.column("clicked").astype(bool)
    for name in ("liked", "shared"):
        flag = default.column(name).astype(bool)
        assert flag.sum() > 1_000
        assert not (flag & ~clicked).any()
    hidden = default.column("hidden").astype(bool)
    assert hidden.sum() > 1_000
    assert not (hidden & clicked).any()
    dwell = default.column("dwell_seconds")
    assert dwell.min() >= 0
    assert np.median(dwell[clicked]) > 3 * np.median(dwell[~clicked])


def test_description_declares_every_column_and_no_outcome_is_an_input(default: Simulated) -> None:
    description = load_description("simulated")
    keys = {description.user.column, description.item.column, description.time.column}
    context = {field.source for field in description.context if field.derive is None}
    outcomes = {"clicked", "liked", "shared", "hidden", "dwell_seconds"}
    assert set(description.outcomes) == outcomes
    assert set(default.log.column_names) == keys | context | outcomes
    assert not context & outcomes
    assert set(description.action_columns) <= outcomes
    for side, name in ((description.side.user, "users"), (description.side.item, "items")):
        assert side is not None
        columns = set(pq.read_schema(default.folder / f"{name}.parquet").names)
        assert columns == {side.key, *(field.source for field in side.fields)}


def test_truth_is_outside_the_patterns_of_the_description(default: Simulated) -> None:
    description = load_description("simulated")
    assert description.side.user is not None
    assert description.side.item is not None
    patterns = (
        *description.log.files,
        *description.side.user.files,
        *description.side.item.files,
    )
    read = {file.name for pattern in patterns for file in default.folder.glob(pattern)}
    assert {file.name for file in default.folder.iterdir()} - read == {
        "truth.parquet",
        "simulation.json",
    }
    assert "probability" not in default.log.column_names


def test_blocks_hold_whole_users_in_files_of_small_row_groups(two_blocks: Simulated) -> None:
    files = sorted(two_blocks.folder.glob("impressions*"))
    assert len(files) >= 2
    users = [set(pq.read_table(file)["user_id"].to_pylist()) for file in files]
    assert not set.intersection(*users)
    for file in [*files, two_blocks.folder / "truth.parquet"]:
        metadata = pq.read_metadata(file)
        sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
        assert len(sizes) > 1
        assert max(sizes) <= 500
    for name in ("user_id", "item_id", "time_ms", "position"):
        assert two_blocks.log[name].equals(two_blocks.truth[name])


def test_progress_counts_up_to_the_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(writing, "BLOCK_IMPRESSIONS", 1_000)
    with caplog.at_level(logging.INFO, logger="lengthwise.progress"):
        simulate(tmp_path / "log", impressions=4_000)
    done = [vars(record)["done"] for record in caplog.records if record.message == "simulate"]
    assert len(done) > 1
    assert done == sorted(done)
    assert done[-1] == 4_000


def test_very_same_simulation_is_not_written_again(tmp_path: Path) -> None:
    first = simulate(tmp_path / "log", impressions=2_000)
    stamp = (tmp_path / "log").stat().st_mtime_ns
    second = simulate(tmp_path / "log", impressions=2_000)
    assert first.written
    assert second == dataclasses.replace(first, written=False)
    assert (tmp_path / "log").stat().st_mtime_ns == stamp


def test_another_simulation_replaces_the_earlier_one(tmp_path: Path) -> None:
    simulate(tmp_path / "log", impressions=2_000, seed=1)
    simulate(tmp_path / "log", impressions=2_000, seed=2)
    simulate(tmp_path / "fresh", impressions=2_000, seed=2)
    assert contents(tmp_path / "log") == contents(tmp_path / "fresh")
    assert {entry.name for entry in tmp_path.iterdir()} == {"log", "fresh"}


def test_damaged_simulation_is_written_again(tmp_path: Path) -> None:
    simulate(tmp_path / "log", impressions=2_000)
    before = contents(tmp_path / "log")
    (tmp_path / "log" / "users.parquet").write_bytes(b"PAR1")
    assert simulate(tmp_path / "log", impressions=2_000).written
    assert contents(tmp_path / "log") == before


@pytest.mark.parametrize("earlier", [False, True])
def test_folder_with_other_files_is_refused(tmp_path: Path, earlier: bool) -> None:
    if earlier:
        simulate(tmp_path / "log", impressions=2_000)
    (tmp_path / "log").mkdir(exist_ok=True)
    (tmp_path / "log" / "precious.csv").write_text("1\n")
    before = contents(tmp_path / "log")
    with pytest.raises(InputError, match=r"log: holds files .*precious\.csv"):
        simulate(tmp_path / "log", impressions=2_000, seed=2)
    assert contents(tmp_path / "log") == before


def test_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("x")
    with pytest.raises(InputError, match="a folder is expected"):
        simulate(tmp_path / "log", impressions=2_000)


def test_draft_of_a_killed_process_is_removed(tmp_path: Path) -> None:
    killed = subprocess.Popen([sys.executable, "-c", ""])
    killed.wait()
    left = tmp_path / f".log.draft-{killed.pid}"
    left.mkdir()
    (left / "impressions.parquet").write_bytes(b"half")
    running = tmp_path / f".log.draft-{os.getppid()}"
    running.mkdir()
    simulate(tmp_path / "log", impressions=2_000)
    assert {entry.name for entry in tmp_path.iterdir()} == {"log", running.name}


def test_full_disk_names_the_folder_and_keeps_the_earlier_log(tmp_path: Path) -> None:
    simulate(tmp_path / "log", impressions=2_000)
    before = contents(tmp_path / "log")
    script = (
        "import sys; from beam_jobs.simulate import simulate\n"
        "try:\n    simulate(sys.argv[1], impressions=20_000)\n"
        "except OSError as error:\n    sys.exit(str(error))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "log")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000)),
    )
    assert result.returncode == 1
    assert "the simulated log cannot be written" in result.stderr
    assert str(tmp_path / "log") in result.stderr
    assert contents(tmp_path / "log") == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["log"]
