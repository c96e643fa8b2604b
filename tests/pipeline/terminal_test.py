"""Tests of what a run shows and what goes to the log."""

from __future__ import annotations

import io
import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from models.progress_lines import PROGRESS_LOGGER
from pipeline.terminal import StepScreen

ROOT = Path(__file__).parents[2]


def test_frameworks_and_children_write_to_the_log_and_the_console_to_the_screen(
    tmp_path: Path,
) -> None:
    script = (
        "import os, subprocess, sys\n"
        "from pathlib import Path\n"
        "import logging\n"
        "from models.progress_lines import PROGRESS_LOGGER, log_to_stderr\n"
        "from pipeline.terminal import captured_output\n"
        f"with captured_output(Path({str(tmp_path / 'log')!r})) as console:\n"
        "    log_to_stderr()\n"
        "    logging.getLogger('any').info('a record')\n"
        "    progress = logging.getLogger(PROGRESS_LOGGER)\n"
        "    progress.info('state of a bar', extra={'done': 3, 'total': 5})\n"
        "    progress.info('a line', extra={'line': 'a line'})\n"
        "    print('python chatter')\n"
        "    os.write(2, b'native chatter\\n')\n"
        "    subprocess.run([sys.executable, '-c', 'print(\"child chatter\")'])\n"
        "    console.print('for people :100:')\n"
        "print('after')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    # As it is: a path or a value of the log may hold what rich would draw as a picture.
    assert done.stdout == "for people :100:\nafter\n"
    assert done.stderr == ""
    log = (tmp_path / "log").read_text()
    for line in ("python chatter", "native chatter", "child chatter", "a record", "a line"):
        assert line in log
    assert "state of a bar" not in log


def test_a_full_disk_below_the_log_does_not_swallow_what_is_said_after() -> None:
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from pipeline.terminal import captured_output\n"
        "try:\n"
        "    with captured_output(Path('/dev/full')) as console:\n"
        "        print('chatter')\n"
        "        console.print('for people')\n"
        "        raise ValueError('the fault')\n"
        "except ValueError as error:\n"
        "    print(error, file=sys.stderr)\n"
        "    sys.exit(3)\n"
    )
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (3, "the fault\n")
    assert done.stdout.startswith("for people\n")


def test_one_line_a_step_with_its_time_or_cached() -> None:
    text = io.StringIO()
    with StepScreen(Console(file=text, width=80)) as screen:
        screen.start("Transform")
        screen.finish()
        screen.start("Trainer")
        screen.finish(cached=True, note="as before")
        screen.start("Evaluator")
    lines = text.getvalue().splitlines()
    assert lines[0].split()[0] == "Transform"
    assert lines[0].endswith(" s")
    assert lines[1].split() == ["Trainer", "cached", "as", "before"]
    assert len(lines) == 2
    assert set(screen.seconds) == {"Transform", "Trainer"}
    assert screen.cached == {"Trainer"}
    assert screen.current == "Evaluator"


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_is_drawn_on_a_terminal_only(terminal: bool) -> None:
    text = io.StringIO()
    console = Console(file=text, width=100, force_terminal=terminal)
    logger = logging.getLogger(PROGRESS_LOGGER)
    with StepScreen(console) as screen:
        logger.info("ignored before a step", extra={"done": 1, "total": 2})
        screen.start("Trainer")
        logger.info("train", extra={"done": 512, "total": 1024, "unit": "examples"})
        screen._progress.refresh()
        screen.finish()
    assert ("512/1,024 examples" in text.getvalue()) is terminal


def test_the_bar_gives_way_to_figures_on_a_narrow_terminal() -> None:
    text = io.StringIO()
    console = Console(file=text, width=80, force_terminal=True, color_system=None, soft_wrap=True)
    values = {"done": 102_400, "total": 200_171, "unit": "examples"}
    with StepScreen(console) as screen:
        screen.start("ExampleValidator")
        logging.getLogger(PROGRESS_LOGGER).info("", extra={**values, "note": "epoch 1/3, loss 0.5"})
        screen._progress.refresh()
    [line] = {one for one in re.split("[\r\n]", text.getvalue()) if "102,400" in one}
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line)
    figures = "102,400/200,171 examples  epoch 1/3, loss"
    assert re.match(rf"  ExampleValidator \d:\d\d:\d\d ━+╸? +{figures}", shown)
    assert len(shown) <= 80


def test_a_line_is_printed_without_a_terminal_too() -> None:
    text = io.StringIO()
    logger = logging.getLogger(PROGRESS_LOGGER)
    with StepScreen(Console(file=text, width=100)) as screen:
        screen.start("Trainer")
        logger.info("train", extra={"line": "epoch 1/2, step 90: 500 examples/s"})
    assert text.getvalue() == "    epoch 1/2, step 90: 500 examples/s\n"
