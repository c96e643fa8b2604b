"""What a step holds at a time."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

from beam_jobs import transforms
from beam_jobs.columns import to_ipc
from beam_jobs.events import Bounds
from beam_jobs.normalise import event_schema
from beam_jobs.transforms import LOG, CleanShard, Layout
from tests.beam_jobs.job import describe


def test_a_log_given_twice_is_put_aside_a_batch_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transforms, "BATCH_ROWS", 3)
    description = describe(context=[])
    event = {"user": 1, "time": 5, "label": 0, "action": 4}
    once = pa.Table.from_pylist(
        [{**event, "item": item} for item in range(7)], event_schema(description)
    )
    layout = Layout(output=str(tmp_path), snapshot=None)
    layout.make_folders()
    bounds = Bounds(0, 10, 20, 30, 0)
    parts = [(LOG, to_ipc(once))] * 2
    counts, *_ = CleanShard(description, layout).process((4, parts), bounds)

    assert counts.value == {"rejected:duplicate": 7}
    files = sorted((tmp_path / "dead_letter").iterdir())
    letters = [[json.loads(line) for line in file.read_text().splitlines()] for file in files]
    assert [len(part) for part in letters] == [3, 3, 1]
    assert [letter["row"]["item"] for part in letters for letter in part] == list(range(7))
