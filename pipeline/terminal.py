"""What a person sees of a run: one line a finished step, a bar for the long ones.

Everything that the frameworks print goes to a log file instead: file descriptors 1 and 2 are
pointed at it, since C++ code and child processes write there too.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column

from models.progress_lines import PROGRESS_LOGGER


@contextlib.contextmanager
def captured_output(log: Path) -> Iterator[Console]:
    """Sends all output to ``log`` and yields a console on the real standard output."""
    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    real = os.dup(1), os.dup(2)
    # The screen closes its own: closed before, what it still holds would fail as a bad descriptor.
    with log.open("ab", buffering=0) as stream, os.fdopen(real[0], "w") as screen:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
        try:
            yield Console(file=screen, highlight=False, markup=False, soft_wrap=True, emoji=False)
        finally:
            for chatter in (sys.stdout, sys.stderr):
                # On a full disk it is lost; what is said of the fault must still be seen.
                with contextlib.suppress(OSError):
                    chatter.flush()
            os.dup2(real[0], 1)
            os.dup2(real[1], 2)
            os.close(real[1])


class StepScreen(logging.Handler):
    """Shows the steps of a run, and keeps how long each took and whether it was cached.

    It listens to the log records of ``lengthwise.progress``, whose ``extra`` holds ``done`` (or
    ``advance``), ``total``, ``unit`` and ``note``, or a ``line`` to print.

    Attributes:
        seconds: wall time of each finished step.
        cached: steps that were answered from the cache.
        current: the step that runs, if any.
    """

    def __init__(self, console: Console):
        super().__init__(logging.INFO)
        self.seconds: dict[str, float] = {}
        self.cached: set[str] = set()
        self.current: str | None = None
        self._console = console
        self._began = 0.0
        self._task: TaskID | None = None
        self._progress = Progress(
            TextColumn("  {task.description:<16}"),
            TimeElapsedColumn(table_column=Column(min_width=7)),
            # The first to give way where the terminal is narrow.
            BarColumn(bar_width=30, table_column=Column(no_wrap=False)),
            TextColumn("{task.fields[state]}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> StepScreen:
        self._progress.start()
        logger = logging.getLogger(PROGRESS_LOGGER)
        logger.addHandler(self)
        logger.setLevel(logging.INFO)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger(PROGRESS_LOGGER).removeHandler(self)
        self._clear()
        self._progress.stop()

    def emit(self, record: logging.LogRecord) -> None:
        """Follows one progress record."""
        line = record.__dict__.get("line")
        if line is None:
            self._advance(record)
        else:
            self._console.print(f"    {line}")

    def start(self, step: str) -> None:
        """Shows that a step has begun."""
        self.current = step
        self._began = time.monotonic()
        self._task = self._progress.add_task(step, total=None, state="")

    def finish(self, *, cached: bool = False, note: str = "") -> None:
        """Prints the line of the step that has ended."""
        if self.current is None:
            return
        step, seconds = self.current, time.monotonic() - self._began
        if cached:
            self.cached.add(step)
        self.seconds[step] = round(seconds, 2)
        self._clear()
        state = "cached" if cached else f"{seconds:.1f} s"
        self._console.print(f"  {step:<22}{state:>9}  {note}".rstrip())
        self.current = None

    def _advance(self, record: logging.LogRecord) -> None:
        if self._task is None:
            return
        values = record.__dict__
        done, total = values.get("done"), values.get("total")
        unit, note = values.get("unit", ""), values.get("note", "")
        task = next(task for task in self._progress.tasks if task.id == self._task)
        completed = done if done is not None else task.completed + values.get("advance", 0)
        state = f"{completed:,.0f}/{total:,.0f} {unit}" if total else f"{completed:,.0f} {unit}"
        self._progress.update(
            self._task, completed=completed, total=total, state=f"{state}  {note}".rstrip()
        )

    def _clear(self) -> None:
        if self._task is not None:
            self._progress.remove_task(self._task)
            self._task = None
