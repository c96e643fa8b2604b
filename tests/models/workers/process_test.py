"""Tests of the process that trains a worker's share."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from pathlib import Path

from models.activity import activity
from models.workers.process import OUTCOME_FILE, PULSE_FILE, TRAINING_FILE

# The last worker to pass the barrier finds the connection to the first closed.
PROGRAM = """
import os, sys
from pathlib import Path
from models.workers import group, process

def closed(self, values):
    raise OSError("Socket closed")

process.make_workers_strategy = lambda: None
group.WorkerGroup.__init__ = lambda self, strategy: None
group.WorkerGroup.from_chief = closed
code = process.main(Path(sys.argv[1]))
sys.stdout.flush()
os._exit(code)
"""


def run(folder: Path, target: str) -> tuple[int, dict[str, str]]:
    content = {"target": target, "arguments": "ours"}
    (folder / TRAINING_FILE).write_text(json.dumps(content), encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(folder)], stdin=subprocess.PIPE, cwd=Path.cwd()
    )
    code = process.wait(timeout=120)
    assert process.stdin is not None
    process.stdin.close()
    return code, json.loads((folder / OUTCOME_FILE).read_text(encoding="utf-8"))


def give_back(arguments: str, strategy: None, folder: str) -> str:
    return arguments


def wait(arguments: str, strategy: None, folder: str) -> None:
    Path(folder, "waiting").touch()
    time.sleep(60)


def get_on(arguments: str, strategy: None, folder: str) -> None:
    for step in (1, 2, 3):
        activity.begin(f"step {step}")
        time.sleep(0.5)
    time.sleep(60)


def fail(arguments: str, strategy: None, folder: str) -> str:
    raise ValueError(arguments)


def test_a_result_stands_when_another_worker_has_gone_first(tmp_path: Path) -> None:
    assert run(tmp_path, f"{__name__}.give_back") == (0, {"result": "ours"})


def test_an_error_of_the_training_is_the_outcome(tmp_path: Path) -> None:
    assert run(tmp_path, f"{__name__}.fail") == (1, {"error": "ours", "type": "ValueError"})


def test_it_says_how_far_it_is(tmp_path: Path) -> None:
    content = {"target": f"{__name__}.get_on", "arguments": ""}
    (tmp_path / TRAINING_FILE).write_text(json.dumps(content), encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tmp_path)], stdin=subprocess.PIPE, cwd=Path.cwd()
    )
    assert process.stdin is not None
    seen: set[tuple[int, str]] = set()
    beats = 0
    while (3, "step 3") not in seen:
        assert process.poll() is None
        with contextlib.suppress(FileNotFoundError):
            pulse = json.loads((tmp_path / PULSE_FILE).read_text(encoding="utf-8"))
            assert pulse["beats"] >= beats
            beats = pulse["beats"]
            seen.add((pulse["begun"], pulse["doing"]))
        time.sleep(0.02)
    assert beats >= 2
    process.stdin.close()
    assert process.wait(timeout=60) == 1


def test_its_folder_goes_with_whoever_started_it(tmp_path: Path) -> None:
    folder = tmp_path / "scratch"
    folder.mkdir()
    content = {"target": f"{__name__}.wait", "arguments": ""}
    (folder / TRAINING_FILE).write_text(json.dumps(content), encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(folder)], stdin=subprocess.PIPE, cwd=Path.cwd()
    )
    while not (folder / "waiting").exists():
        assert process.poll() is None
        time.sleep(0.02)
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(timeout=60) == 1
    assert not folder.exists()
