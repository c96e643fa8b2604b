"""Nights in a row on a growing log, each disturbed at random, against the same nights undisturbed.

    python -m pytest -m soak -n0 -s tests/e2e/disturbed_nights_test.py

``LENGTHWISE_SOAK_NIGHTS`` and ``LENGTHWISE_SOAK_SEED`` set how many nights, and what happens
in them. A night takes some minutes.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from tests.e2e.runs import ROOT, Workspace

pytestmark = [pytest.mark.e2e, pytest.mark.soak, pytest.mark.timeout(6 * 3600)]

NIGHTS = int(os.environ.get("LENGTHWISE_SOAK_NIGHTS", "6"))
SEED = int(os.environ.get("LENGTHWISE_SOAK_SEED", "1"))
IMPRESSIONS = 60_000
FIRST_DAYS = 7
MOST_DISTURBANCES = 4
DAY_MS = 86_400_000
CONFIG = """
run: {name: nights, root: ROOT/run}
data:
  dataset: simulated
  path: ROOT/raw
  snapshot: latest
  earlier_examples: 13
  history: {max_length: 50}
  split: {validation: 3h, test: 6h}
  length_edges: [5, 20]
  density_edges: [5, 50]
  shards: 2
model:
  {backbone: din, embedding_dim: 8, hidden_units: [16], length_groups: 2, vocabulary_expiry_days: 9}
train: {max_epochs: 1, batch_size: 256, warm_start: latest, checkpoint_minutes: 0.02}
evaluation:
  thresholds: {auc: {min: 0.2}}
  slice_thresholds: {auc: {min: 0.1}}
  min_slice_size: 100
  max_worsening: {auc: 0.5}
canary: {examples: 32, latency_calls: 10, latency_p99_ms: 60000, timeout_seconds: 600}
"""


@pytest.fixture(scope="module")
def days(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The log of the days before the first night, and of one day for each night after it."""
    from beam_jobs.simulate import simulate

    folder = tmp_path_factory.mktemp("log")
    simulate(folder / "all", impressions=IMPRESSIONS, seed=SEED)
    log = pa.concat_tables(pq.read_table(p) for p in (folder / "all").glob("impressions*.parquet"))
    day = pc.divide(log["time_ms"], DAY_MS)
    first = pc.min(day).as_py()
    nights = []
    for night in range(NIGHTS):
        last = first + FIRST_DAYS - 1 + night
        chosen = pc.less_equal(day, last) if night == 0 else pc.equal(day, last)
        nights.append(folder / f"night-{night}")
        nights[-1].mkdir()
        pq.write_table(log.filter(chosen), nights[-1] / "impressions.parquet")
        for side in ("users", "items"):
            shutil.copy(folder / "all" / f"{side}.parquet", nights[-1])
    return nights


class Watched:
    """A server over the folder that the runs push to, called all the time."""

    def __init__(self, workspace: Workspace):
        from serving.client import Client
        from serving.client_support.config import ClientConfig, RetryConfig

        ready = workspace.folder / "ready.json"
        self.log = (workspace.folder / "server.txt").open("wb")
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "pipeline.cli", "serve", str(workspace.root / "serving")),
                *("--name", "ranker", "--port", "0", "--rest-port", "0"),
                *("--ready-file", str(ready)),
            ],
            cwd=ROOT,
            stdout=self.log,
            stderr=subprocess.STDOUT,
        )
        while not ready.is_file():
            assert self.process.poll() is None
            time.sleep(0.1)
        port = json.loads(ready.read_text(encoding="utf-8"))["grpc_port"]
        self.client = Client(
            ClientConfig(address=f"127.0.0.1:{port}", retry=RetryConfig(attempts=1))
        )
        self.calls = 0
        self.failures: list[str] = []
        self.version = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._call)
        self._thread.start()

    def _call(self) -> None:
        import tensorflow as tf

        example = tf.train.Example()
        example.features.feature["item_id"].int64_list.value.append(1)
        request = {"examples": [example.SerializeToString()]}
        while not self._ended.wait(0.2):
            try:
                answer = self.client.predict("ranker", request, deadline_seconds=30)
                self.version = answer.answered.version or 0
            except Exception as error:
                self.failures.append(f"{datetime.datetime.now():%H:%M:%S} {error}")
            self.calls += 1

    def close(self) -> None:
        self._ended.set()
        self._thread.join()
        self.client.close()
        self.process.terminate()
        self.process.wait(60)
        self.log.close()


class Disturbances:
    """What can happen to a night; each returns a few words on what it did."""

    def __init__(self, chance: random.Random, workspace: Workspace, seconds: float, day: Path):
        self.chance = chance
        self.workspace = workspace
        self.seconds = seconds
        self.day = day

    def any(self) -> str:
        kinds = {
            self.killed: 6,
            self.terminated: 2,
            self.full_disk: 2,
            self.bad_log: 1,
            self.unknown_value: 1,
            self.refused: 1,
        }
        [kind] = self.chance.choices(list(kinds), list(kinds.values()))
        return kind()

    def killed(self) -> str:
        seconds = self.chance.uniform(0, self.seconds)
        code = self.workspace.stop_after(seconds, signal.SIGKILL, *self._of(self.day))
        assert code in (-signal.SIGKILL, 0)
        return f"killed after {seconds:.1f} s: {code}"

    def terminated(self) -> str:
        seconds = self.chance.uniform(0, self.seconds)
        code = self.workspace.stop_after(seconds, signal.SIGTERM, *self._of(self.day))
        # Before the command has begun to handle it, the signal ends the process.
        assert code in (-signal.SIGTERM, 0, 1)
        return f"terminated after {seconds:.1f} s: {code}"

    def full_disk(self) -> str:
        size = int(10 ** self.chance.uniform(4.5, 6.5))
        code, summary, _ = self.workspace.run(*self._of(self.day), file_limit=size)
        assert code in (0, 1)
        return f"no file above {size:,} bytes: {code} {_line(summary)}"

    def bad_log(self) -> str:
        day = self._changed("time_ms", lambda column: pc.divide(column, 1000))
        code, summary, _ = self.workspace.run(*self._of(day))
        assert code == 2
        return f"seconds for milliseconds: {code} {_line(summary)}"

    def unknown_value(self) -> str:
        day = self._changed("surface", lambda column: pa.array(["hologram"] * len(column)))
        code, summary, _ = self.workspace.run(*self._of(day))
        # Where a run has carried this day's histories on, another log of the day comes too late.
        assert code == 3 or (code == 2 and "older than the snapshot" in summary["error"])
        return f"a value not in the schema: {code} {_line(summary)}"

    def refused(self) -> str:
        changes = (*self._of(self.day), "evaluation.thresholds.auc.min=0.99")
        code, _, _ = self.workspace.run(*changes)
        assert code == 3
        return f"a threshold out of reach: {code}"

    def _of(self, day: Path) -> tuple[str]:
        return (f"data.path={day}",)

    def _changed(self, name: str, change: Any) -> Path:
        day = self.workspace.folder / "changed"
        shutil.rmtree(day, ignore_errors=True)
        shutil.copytree(self.day, day)
        [path] = day.glob("impressions*.parquet")
        table = pq.read_table(path)
        index = table.schema.get_field_index(name)
        pq.write_table(table.set_column(index, name, change(table[name])), path)
        return day


def test_disturbed_nights_end_as_undisturbed_ones(
    days: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> None:
    chance = random.Random(SEED)
    calm, shaken = (Workspace(tmp_path_factory.mktemp(name), CONFIG) for name in ("calm", "shaken"))
    watched = None
    try:
        for night, day in enumerate(days):
            began = time.monotonic()
            code, expected, output = calm.run(f"data.path={day}")
            seconds = time.monotonic() - began
            assert code == 0, output
            assert expected["status"] == "pushed"
            say(f"night {night + 1}: {seconds:.0f} s, AUC {expected['overall']['auc']:.4f}")
            happens = Disturbances(chance, shaken, seconds, day)
            for _ in range(chance.randint(1, MOST_DISTURBANCES)):
                versions = hashes(shaken)
                say(f"  {happens.any()}")
                assert all(hashes(shaken)[number] == found for number, found in versions.items())
                for number in hashes(shaken).keys() - versions.keys():
                    say(f"  version {number}")
                    assert weights(shaken, number) == weights(calm, str(night + 1))
                assert not orphans(shaken, watched)
            code, found, output = shaken.run(f"data.path={day}")
            say(f"  then {code} {found['status']}")
            assert code == 0, output
            assert found["status"] in ("pushed", "unchanged")
            assert found["overall"] == expected["overall"]
            assert found["slices"] == expected["slices"]
            assert len(shaken.versions()) == night + 1
            assert weights(shaken, str(night + 1)) == weights(calm, str(night + 1))
            assert not list(shaken.root.rglob("*stag*"))
            assert not list((shaken.root / "tmp").glob("*"))
            assert not orphans(shaken, watched)
            if watched is None:
                watched = Watched(shaken)
            end = time.monotonic() + 120
            while watched.version != night + 1:
                assert time.monotonic() < end
                time.sleep(0.2)
            assert watched.failures == []
            say(f"  served; {watched.calls} calls, none failed")
    finally:
        if watched is not None:
            watched.close()


def _line(summary: dict[str, Any]) -> str:
    return str(summary.get("error") or "").partition("\n")[0][:150]


def hashes(workspace: Workspace) -> dict[str, str]:
    """Of all files of each version."""
    from components.pusher.versions import fingerprint

    folder = workspace.root / "serving"
    return {number: fingerprint(folder / number) for number in workspace.versions()}


def weights(workspace: Workspace, number: str) -> list[bytes]:
    """What the variables of a version are kept in."""
    folder = workspace.root / "serving" / number
    assert (folder / "saved_model.pb").is_file()
    return [path.read_bytes() for path in sorted((folder / "variables").glob("*.data-*"))]


def orphans(workspace: Workspace, watched: Watched | None) -> list[str]:
    """Command lines that name the workspace half a minute after its run has ended."""
    end = time.monotonic() + 30
    while True:
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                command = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
                if str(workspace.root) in command and (
                    watched is None or int(path.parent.name) != watched.process.pid
                ):
                    found.append(command)
        if not found or time.monotonic() > end:
            return found
        time.sleep(0.5)


def say(text: str) -> None:
    print(f"{datetime.datetime.now():%H:%M:%S} {text}", flush=True)
