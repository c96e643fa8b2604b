"""Tests of the command line, as a user meets it: in a process of its own."""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import cli, lock
from pipeline.environment import without_chatter

ROOT = Path(__file__).parents[2]


def lengthwise(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pipeline.cli", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("run", "--help"),
        ("config", "show", "configs/demo.yaml"),
        ("run", "configs/demo.yaml", "--set", "train.seeed=1"),
    ],
)
def test_quick_commands_import_no_framework(arguments: tuple[str, ...]) -> None:
    script = (
        "import sys\nfrom pipeline.cli import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        "heavy = {'tensorflow', 'tfx', 'apache_beam', 'pandas'} & set(sys.modules)\n"
        "print('heavy:', sorted(heavy))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert done.stdout.rstrip().endswith("heavy: []")


def test_config_errors_exit_2_and_name_the_key() -> None:
    done = lengthwise("run", "configs/demo.yaml", "--set", "train.seeed=1")
    assert done.returncode == 2
    assert "train.seeed: unknown key; did you mean 'seed'?" in done.stderr
    assert "Traceback" not in done.stderr


def test_unknown_dataset_lists_those_there_are() -> None:
    done = lengthwise("run", "configs/kuairand_pure.yaml", "--set", "data.dataset=movielens")
    assert done.returncode == 2
    for name in ("kuairand_pure", "online_retail", "simulated"):
        assert name in done.stderr


def test_unknown_flags_are_refused_except_for_beam() -> None:
    done = lengthwise("run", "configs/demo.yaml", "--runner=DirectRunner")
    assert done.returncode == 2
    assert "--runner=DirectRunner" in done.stderr


def test_missing_data_folder_exits_2(tmp_path: Path) -> None:
    # Of an earlier run: this one put nothing aside.
    (tmp_path / "out.dead_letter.jsonl").touch()
    done = lengthwise(
        "examples",
        "configs/kuairand_pure.yaml",
        "--set",
        f"data.path={tmp_path}/none",
        "--output",
        str(tmp_path / "out"),
    )
    assert done.returncode == 2
    message = (
        f"{tmp_path}/none: no file matches log_standard_*_pure.csv; {tmp_path}/none is no folder"
    )
    assert done.stderr == f"lengthwise: {message}\n"
    assert not (tmp_path / "out").exists()


@pytest.fixture
def own_log(tmp_path: Path) -> list[str]:
    """A log with labels in words and its description, as flags for a shipped configuration."""
    (tmp_path / "log.csv").write_text("u,i,t,y\n1,2,1772323265,no\n1,3,1772323266,yes\n")
    (tmp_path / "own.yaml").write_text(
        "{name: own, log: {files: [log.csv], format: csv}, user: {column: u}, item: {column: i}, "
        "time: {column: t, unit: s, years: [2026, 2026]}, label: {column: y}, "
        "actions: [{name: seen}], split: {validation: 1d, test: 1d}}"
    )
    data = {"dataset": f"{tmp_path}/own.yaml", "path": str(tmp_path)}
    return [flag for key, value in data.items() for flag in ("--set", f"data.{key}={value}")]


def test_a_log_that_is_refused_is_told_without_a_stack(own_log: list[str], tmp_path: Path) -> None:
    done = lengthwise(
        "examples", "configs/kuairand_pure.yaml", *own_log, "--output", f"{tmp_path}/out"
    )
    assert done.returncode == 2
    error, dead_letter = done.stderr.splitlines()
    assert error.endswith("allows: 2 rows: label: y is not 0 or 1")
    assert dead_letter == f"rows put aside: {tmp_path}/out.dead_letter.jsonl"


def test_a_schema_that_is_not_set_is_told_at_once(own_log: list[str], tmp_path: Path) -> None:
    root = f"run.root={tmp_path}/root"
    done = lengthwise("run", "configs/kuairand_pure.yaml", *own_log, "--set", root)
    assert done.returncode == 2
    assert done.stderr == (
        "lengthwise: data.schema: not set, and none ships for the dataset 'own'; `lengthwise data "
        "propose-schema CONFIG --output FILE` proposes one to look over\n"
    )
    assert not (tmp_path / "root").exists()


def test_a_folder_for_a_proposed_schema_is_refused_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["data", "propose-schema", "configs/demo.yaml", "--output", str(tmp_path)]
    assert cli.main([*arguments, "--set", f"data.path={tmp_path}/none"]) == 2
    told = capsys.readouterr().err
    assert told == f"lengthwise: --output {str(tmp_path)!r}: a file is accepted, found a folder\n"


def test_a_locked_root_says_who_holds_it(tmp_path: Path) -> None:
    with lock.hold(tmp_path):
        done = lengthwise("run", "configs/demo.yaml", "--set", f"run.root={tmp_path}")
    assert done.returncode == 1
    assert "is in use by another run: process" in done.stderr


def test_a_lock_is_free_after_its_holder(tmp_path: Path) -> None:
    with lock.hold(tmp_path):
        pass
    with (
        lock.hold(tmp_path),
        (tmp_path / lock.LOCK_FILE).open("a") as stream,
        pytest.raises(BlockingIOError),
    ):
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_disk_too_full_for_the_lock_is_told_with_its_file(tmp_path: Path) -> None:
    script = (
        "import resource, signal, sys\n"
        "from pipeline.cli import main\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "run", "configs/demo.yaml", "--set", f"run.root={tmp_path}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == f"lengthwise: [Errno 27] File too large: '{tmp_path}/.lock'\n"


def test_a_fault_before_the_run_begins_is_in_the_summary_that_was_asked_for(
    tmp_path: Path,
) -> None:
    (tmp_path / "file").touch()
    summary = tmp_path / "summary.json"
    done = lengthwise(
        "run",
        "configs/demo.yaml",
        *("--summary", str(summary), "--set", f"run.root={tmp_path}/file/run"),
    )
    assert done.returncode == 1
    assert f"{tmp_path}/file" in done.stderr
    written = json.loads(summary.read_text())
    assert written["status"] == "failed"
    assert f"{tmp_path}/file" in written["error"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_whoever_stops_it_gets_code_1_and_it_cleans_up(number: signal.Signals) -> None:
    script = (
        "import signal, sys, time\n"
        # Tests that a shell runs in the background inherit that Ctrl-C is ignored.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from pipeline import cli\n"
        "def work(*_):\n"
        "    try:\n"
        "        print('working', flush=True)\n"
        "        time.sleep(60)\n"
        "    finally:\n"
        "        print('cleaned up', flush=True)\n"
        "cli._dispatch = work\n"
        "sys.exit(cli.main(['tune', 'x']))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "working\n"
    process.send_signal(number)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert output == "cleaned up\n"
    assert errors == "lengthwise: interrupted; the next run picks up\n"


def test_describe_lists_the_files_that_a_run_would_read(shared_data: Path) -> None:
    done = lengthwise(
        "data",
        "describe",
        "configs/kuairand_pure.yaml",
        "--set",
        f"data.path={shared_data / 'kuairand_pure_slice'}",
    )
    assert done.returncode == 0, done.stderr
    assert "log_standard_4_25_to_5_08_pure.csv (14,580,349 bytes)" in done.stdout


def test_describe_says_that_a_run_makes_the_simulated_log(tmp_path: Path) -> None:
    done = lengthwise("data", "describe", "configs/demo.yaml", "--set", f"data.path={tmp_path}")
    assert done.returncode == 2
    assert "a run makes the log, as data.generate says" in done.stderr


def test_a_server_section_that_is_a_value_is_named(tmp_path: Path) -> None:
    (tmp_path / "server.yaml").write_text("listen: 5\n")
    for more in ((), ("--port", "0")):
        done = lengthwise("serve", str(tmp_path), "--config", f"{tmp_path}/server.yaml", *more)
        assert done.returncode == 2
        assert "listen" in done.stderr


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.cli", "config", "show", "configs/demo.yaml"],
        cwd=ROOT,
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        timeout=120,
        check=False,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.parametrize(
    ("arguments", "goes_on"),
    [
        (("tune", "configs/demo.yaml"), True),
        (("score", "rows.jsonl", "--host", "localhost:1"), False),
    ],
)
def test_an_interrupted_command_says_whether_it_goes_on(
    arguments: tuple[str, ...],
    goes_on: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupt(_: argparse.Namespace, __: list[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_dispatch", interrupt)
    assert cli.main(arguments) == 1
    told = capsys.readouterr().err
    assert told.startswith("lengthwise: interrupted")
    assert ("picks up" in told) is goes_on


def test_chatter_of_an_import_is_dropped_and_what_follows_is_not(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "1")
    with without_chatter():
        os.write(2, b"E0000 no GPU")
    os.write(2, b"rows scored")
    assert capfd.readouterr().err == "rows scored"


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("model.inputs_excluded=[nonsense]", "nonsense"),
        ("data.allow_empty=[train]", "needs all three splits"),
        ("data.generate.seed=-1", "seed -1"),
        ("run.root=runs/shop[1]", "a path without *, ? and [ is accepted"),
        ("push.destination=README.md/versions", "README.md is no folder; a folder is accepted"),
    ],
)
def test_combinations_that_cannot_work_are_refused_before_anything_starts(
    tmp_path: Path, override: str, named: str
) -> None:
    summary = tmp_path / "summary.json"
    summary.write_text('{"status": "pushed"}')
    done = lengthwise(
        "run",
        "configs/demo.yaml",
        "--summary",
        str(summary),
        "--set",
        f"run.root={tmp_path}/run",
        "--set",
        override,
    )
    assert done.returncode == 2
    assert named in done.stderr
    assert not (tmp_path / "run").exists()
    written = json.loads(summary.read_text())
    assert written["status"] == "failed"
    assert named in written["error"]


def test_a_report_that_cannot_be_printed_is_in_the_summary_all_the_same(tmp_path: Path) -> None:
    # The disk of the file that a scheduler sends the output to is full at the end.
    script = (
        "import os, sys\n"
        "from pipeline import cli\n"
        "from pipeline.commands import run\n"
        "from pipeline.summary import Summary\n"
        "def steps(config, root, console):\n"
        "    os.dup2(os.open('/dev/full', os.O_WRONLY), console.file.fileno())\n"
        "    return 0, Summary(status='pushed', version_folder='serving/1')\n"
        "run._run_steps = steps\n"
        "sys.exit(cli.main(sys.argv[1:]))\n"
    )
    summary = tmp_path / "summary.json"
    arguments = ["run", "configs/demo.yaml", "--summary", str(summary)]
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments, "--set", f"run.root={tmp_path}/run"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert "No space left on device" in done.stderr
    for written in (summary, tmp_path / "run" / "summary.json"):
        assert json.loads(written.read_text())["status"] == "pushed"


def test_faults_are_one_line_and_code_1(tmp_path: Path) -> None:
    done = lengthwise("data", "simulate", "/proc/nowhere")
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    done = lengthwise("data", "simulate", str(tmp_path / "x"), "--impressions", "-5")
    assert done.returncode == 2
    assert "at least 1000 is accepted" in done.stderr
