"""Tests of watching over workers, with processes that do not train."""

from __future__ import annotations

import errno
import json
import logging
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models.workers import supervisor
from models.workers.board import Board, Sign, State, Training
from models.workers.cluster import Cluster
from models.workers.errors import WorkerError
from models.workers.member import take_part
from models.workers.stall import Pulse
from models.workers.supervisor import PeerWatch, supervise

ADDRESSES = ("a:1", "b:2", "c:3")
RUNNING = State.RUNNING


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def board(tmp_path: Path) -> Board:
    return Board(tmp_path / "board")


def watch(board: Board, clock: Clock, index: int = 0) -> PeerWatch:
    return PeerWatch(board, "now", Cluster(addresses=ADDRESSES, index=index), clock)


def test_a_worker_that_never_joins_is_named_within_a_minute(board: Board) -> None:
    clock = Clock()
    peers = watch(board, clock)
    board.show(2, Sign(training="an earlier one", state=State.FAILED, reason="of yesterday"))
    for clock.now in range(1, 40):
        board.show(1, Sign(training="now", state=RUNNING))
        assert peers.fault() is None
    clock.now = 41.0
    fault = peers.fault()
    assert fault is not None
    assert fault.startswith("worker 2 (c:3) has not joined within 40 s; `lengthwise worker")


def test_a_worker_without_signs_of_life_is_named_within_a_minute(board: Board) -> None:
    clock = Clock()
    peers = watch(board, clock)
    for clock.now in range(0, 100, 5):
        for index in (1, 2):
            board.show(index, Sign(training="now", state=RUNNING))
        assert peers.fault() is None
    for clock.now in range(100, 130, 5):
        board.show(1, Sign(training="now", state=RUNNING))
        fault = peers.fault()
    assert fault == "worker 2 (c:3) has given no sign of life for 30 s"


def test_a_watch_that_stood_still_itself_blames_nobody(board: Board) -> None:
    clock = Clock()
    peers = watch(board, clock)
    for index in (1, 2):
        board.show(index, Sign(training="now", state=RUNNING))
    assert peers.fault() is None
    # The file system hangs for all; this process is the first to go on.
    clock.now = 90.0
    assert peers.fault() is None
    board.show(1, Sign(training="now", state=RUNNING))
    for clock.now in range(91, 130):
        board.show(1, Sign(training="now", state=RUNNING))
        fault = peers.fault()
        assert fault is None or clock.now >= 120
    assert fault == "worker 2 (c:3) has given no sign of life for 30 s"


def test_a_failed_worker_is_told_in_its_own_words_and_a_finished_one_may_be_silent(
    board: Board,
) -> None:
    clock = Clock()
    peers = watch(board, clock)
    board.show(1, Sign(training="now", state=State.DONE))
    board.show(2, Sign(training="now", state=RUNNING))
    assert peers.fault() is None
    board.show(2, Sign(training="now", state=State.FAILED, reason="worker 2 (c:3): no disk"))
    assert peers.fault() == "worker 2 (c:3): no disk"


@pytest.mark.parametrize("state", [RUNNING, State.DONE])
def test_a_chief_whose_run_is_over_is_not_called_silent(board: Board, state: State) -> None:
    clock = Clock()
    peers = watch(board, clock, index=1)
    board.show(0, Sign(training="now", state=state))
    assert peers.fault() is None
    board.close()
    clock.now = 1.0
    fault = peers.fault()
    if state is State.DONE:
        assert fault is None
    else:
        assert fault == "worker 0 (a:1, the chief) has ended this training; its log says why"


def test_a_sign_of_an_earlier_release_can_be_read(board: Board) -> None:
    board.show(1, Sign(training="old", state=RUNNING))
    path = board.folder / "sign-1.json"
    values = json.loads(path.read_text())
    del values["pulse"]
    path.write_text(json.dumps(values))
    sign = board.sign(1)
    assert sign is not None
    assert sign.pulse == Pulse()


def test_a_sign_that_is_replaced_while_it_is_read_is_read_again(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    board.show(1, Sign(training="now", state=RUNNING))
    read, faults = Path.read_text, [errno.ESTALE, errno.ESTALE]

    def read_or_fail(path: Path, **options: Any) -> str:
        if faults:
            raise OSError(faults.pop(), "Stale file handle")
        return read(path, **options)

    monkeypatch.setattr(Path, "read_text", read_or_fail)
    assert board.sign(1) is not None
    assert not faults
    for number in (errno.EIO, errno.ESTALE):
        faults.extend([number] * 3)
        with pytest.raises(OSError, match="Stale"):
            board.sign(1)
        faults.clear()


def test_workers_watch_the_chief_alone(board: Board) -> None:
    clock = Clock()
    peers = watch(board, clock, index=1)
    board.show(0, Sign(training="now", state=RUNNING))
    for clock.now in range(0, 30, 5):
        assert peers.fault() is None
    clock.now = 30.0
    assert peers.fault() == "worker 0 (a:1, the chief) has given no sign of life for 30 s"


Script = Callable[[str], None]


@pytest.fixture
def child(monkeypatch: pytest.MonkeyPatch) -> Script:
    """Makes the training process one that runs a line of Python in its folder."""
    monkeypatch.setattr(supervisor, "BEAT_SECONDS", 0.02)

    def use(line: str) -> None:
        def start(training: Training, cluster: Cluster, scratch: Path) -> Any:
            code = f"import json, os, sys, time\nindex = {cluster.index}\n{line}"
            return subprocess.Popen(
                [sys.executable, "-c", code], cwd=scratch, stdin=subprocess.PIPE
            )

        monkeypatch.setattr(supervisor, "_start", start)

    return use


def make_training(stall_seconds: float = 3600.0) -> Training:
    return Training(
        id="now", addresses=("a:1", "b:2"), target="t.f", arguments={"a": 1},
        stall_seconds=stall_seconds,
    )  # fmt: skip


def two(
    board: Board, index: int = 0, *, stall_seconds: float = 3600.0, pulse: Pulse | None = None
) -> tuple[Training, Cluster]:
    training = make_training(stall_seconds)
    board.show(1 - index, Sign(training="now", state=RUNNING, pulse=pulse or Pulse()))
    return training, Cluster(addresses=training.addresses, index=index)


def outcome(**values: Any) -> str:
    return f"json.dump({values!r}, open('outcome.json', 'w'))"


def test_it_returns_the_result_and_passes_progress_on(
    board: Board, child: Script, caplog: pytest.LogCaptureFixture
) -> None:
    line = json.dumps({"message": "train", "values": {"done": 5, "unit": "examples"}})
    child(f"print({line!r}, file=open('progress.jsonl', 'w')); {outcome(result=[1])}")
    training, cluster = two(board)
    with caplog.at_level(logging.INFO):
        assert supervise(training, cluster, board) == [1]
    found = [vars(record) for record in caplog.records if record.message == "train"]
    assert [(values["done"], values["unit"]) for values in found] == [(5, "examples")]
    sign = board.sign(0)
    assert sign is not None
    assert sign.state is State.DONE


def test_temporary_files_of_the_training_process_go_with_its_folder(
    board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(command: list[str], env: dict[str, str], **_: Any) -> str:
        return env["TMPDIR"]

    monkeypatch.setattr(subprocess, "Popen", start)
    assert supervisor._start(*two(board), tmp_path) == str(tmp_path)


def test_a_training_process_that_cannot_be_started_leaves_nothing_and_is_told(
    board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.setattr(supervisor, "_start", fail)
    with pytest.raises(OSError, match="No space left"):
        supervise(*two(board), board)
    assert not list((tmp_path / "temporary").iterdir())
    sign = board.sign(0)
    assert sign is not None
    assert sign.state is State.FAILED
    assert "No space left" in sign.reason


def test_an_error_of_its_own_names_this_worker_and_is_shown_to_the_others(
    board: Board, child: Script
) -> None:
    child(outcome(error="no disk, \n and more", type="CheckpointError"))
    training, cluster = two(board, index=1)
    with pytest.raises(WorkerError, match=r"^worker 1 \(b:2\): no disk, \n and more$"):
        supervise(training, cluster, board)
    sign = board.sign(1)
    assert sign is not None
    assert (sign.state, sign.reason[:21]) == (State.FAILED, "worker 1 (b:2): no di")


def test_a_killed_training_process_is_told_with_its_signal(board: Board, child: Script) -> None:
    child("os.kill(os.getpid(), 9)")
    training, cluster = two(board)
    with pytest.raises(WorkerError, match=r"worker 0 \(a:1, the chief\): .* ended by SIGKILL"):
        supervise(training, cluster, board)


@pytest.mark.parametrize("end", ["os.abort()", outcome(error="peer gone", type="UnavailableError")])
def test_what_follows_from_the_end_of_another_worker_waits_for_its_words(
    board: Board, child: Script, end: str
) -> None:
    child(end)
    training, cluster = two(board)
    failed = Sign(training="now", state=State.FAILED, reason="worker 1 (b:2): its own words")
    timer = threading.Timer(0.5, board.show, (1, failed))
    timer.start()
    with pytest.raises(WorkerError, match=r"^worker 1 \(b:2\): its own words$"):
        supervise(training, cluster, board)
    timer.join()


def test_a_worker_that_fails_ends_the_training_process_of_the_others(
    board: Board, child: Script, tmp_path: Path
) -> None:
    child(f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(60)")
    training, cluster = two(board)
    failed = Sign(training="now", state=State.FAILED, reason="worker 1 (b:2): bad record")
    threading.Timer(0.7, board.show, (1, failed)).start()
    began = time.monotonic()
    with pytest.raises(WorkerError, match="bad record"):
        supervise(training, cluster, board)
    assert time.monotonic() - began < 30
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_a_training_that_does_not_get_on_is_ended_and_names_who_is_waited_for(
    board: Board, child: Script
) -> None:
    pulse = {"beats": 5, "begun": 8, "doing": "step 4 of epoch 1"}
    child(f"json.dump({pulse!r}, open('pulse.json', 'w')); time.sleep(60)")
    behind = Pulse(beats=5, begun=7, doing="a batch of the train split")
    training, cluster = two(board, stall_seconds=2.0, pulse=behind)
    began = time.monotonic()
    with pytest.raises(
        WorkerError, match=r"^worker 1 \(b:2\), at a batch of the train split, is waited for by"
    ):
        supervise(training, cluster, board)
    assert time.monotonic() - began < 30
    sign = board.sign(0)
    assert sign is not None
    assert (sign.state, sign.reason[:14]) == (State.FAILED, "worker 1 (b:2)")


def test_a_stopped_process_that_tensorflow_gives_up_is_named(
    board: Board, child: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.workers.stall.SILENT_SECONDS", 0.5)
    end = {
        "error": "Graph execution error:\n\nCollective ops is aborted",
        "type": "UnavailableError",
    }
    child(
        f"""
for beats in range(40):
    json.dump({{'beats': beats}}, open('part', 'w'))
    os.replace('part', 'pulse.json')
    time.sleep(0.05)
{outcome(**end)}
"""
    )
    training, cluster = two(board, pulse=Pulse(beats=5, begun=8, doing="step 4 of epoch 1"))
    began = time.monotonic()
    with pytest.raises(
        WorkerError, match=r"^worker 1 \(b:2\), at step 4 of epoch 1, does not run, stopped or held"
    ):
        supervise(training, cluster, board)
    assert time.monotonic() - began < 20


def test_a_killed_process_that_cannot_end_is_left_behind(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(supervisor, "END_SECONDS", 0.05)
    child = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(60)"], stdin=subprocess.PIPE
    )
    # As where it waits for a file system that hangs.
    with monkeypatch.context() as patch:
        patch.setattr(child, "kill", lambda: None)
        supervisor._end(child)
    assert f"training process {child.pid} was killed and has not ended yet" in caplog.text
    child.kill()
    child.wait()


def test_a_worker_that_the_chief_does_not_count_is_told(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.workers.member.BEAT_SECONDS", 0.02)

    def begin() -> None:
        board.announce(make_training())
        board.show(0, Sign(training="now", state=RUNNING))

    timer = threading.Timer(0.2, begin)
    timer.start()
    with pytest.raises(WorkerError, match=r"^worker 2: the chief counts 2 workers, \['a:1', 'b:2'"):
        take_part(Cluster(addresses=ADDRESSES, index=2), board)
    timer.join()


def test_a_member_waits_for_a_new_training_and_takes_its_addresses(
    board: Board, child: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.workers.member.BEAT_SECONDS", 0.02)
    child(outcome(result=None))
    # Of an earlier run, whose chief was killed.
    board.show(0, Sign(training="old", state=RUNNING))
    found: list[bool] = []
    told = Cluster(addresses=("x:1", "y:2"), index=1)
    member = threading.Thread(target=lambda: found.append(take_part(told, board)))
    member.start()
    time.sleep(0.3)
    assert board.sign(1) is None
    # In this order, or a member looks for what is not there yet.
    board.announce(make_training())
    board.show(0, Sign(training="now", state=RUNNING))
    member.join(30)
    assert found == [True]
    sign = board.sign(1)
    assert sign is not None
    assert (sign.training, sign.state) == ("now", State.DONE)


def test_a_member_leaves_a_run_that_ends_without_a_training(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.workers.member.BEAT_SECONDS", 0.02)
    threading.Timer(0.2, board.close).start()
    assert not take_part(Cluster(addresses=("x:1", "y:2"), index=1), board)
