"""``lengthwise run``: the pipeline, from raw log to pushed model."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import logging
import os
import re
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from beam_jobs.errors import InputError
from models.plan import make_plan
from models.progress_lines import log_to_stderr
from models.workers.board import FOLDER as WORKERS
from models.workers.board import Board
from models.workers.cluster import read_cluster
from models.workers.errors import WorkerError, first_words
from pipeline import lock
from pipeline.config import RunConfig, load_config, to_yaml
from pipeline.curated import schema_source
from pipeline.environment import prepare_environment
from pipeline.exits import EXIT_BAD_INPUT, EXIT_FAULT, EXIT_REFUSED
from pipeline.summary import FAILED_DEAD_LETTER, Summary, find_not_judged
from pipeline.terminal import StepScreen, captured_output
from schemas.dataset import load_description
from schemas.imports import without_collection
from schemas.loading import ConfigError
from schemas.writing import write_text

RESOLVED_CONFIG = "config.yaml"

_logger = logging.getLogger(__name__)


def main(arguments: argparse.Namespace) -> int:
    """Runs the pipeline and reports what it did."""
    summary_path = Path(arguments.summary).resolve() if arguments.summary else None
    try:
        if summary_path is not None:
            # Say so now, not after hours of work; what an earlier run wrote must not stay.
            summary_path.parent.mkdir(parents=True, exist_ok=True)
            summary_path.unlink(missing_ok=True)
        config = load_config(arguments.config, arguments.overrides)
        check_run(config)
        check_destination(config)
        root = Path(config.run.root).resolve()
        with lock.hold(root):
            return _run(config, root, summary_path)
    except (ConfigError, lock.LockedError, OSError) as error:
        print(f"lengthwise: {error}", file=sys.stderr)
        if summary_path is not None and not summary_path.exists():
            # The disk of the root may be full or read-only, and this another one.
            with contextlib.suppress(OSError):
                Summary(error=str(error)).write(summary_path)
        return EXIT_BAD_INPUT if isinstance(error, ConfigError) else EXIT_FAULT


def check_run(config: RunConfig) -> None:
    """Checks what the sections of a run ask of each other and of the dataset.

    Raises:
        ConfigError: a combination cannot work.
    """
    root = str(Path(config.run.root).resolve())
    if any(character in root for character in "*?["):
        # Beam and TFX take the names of files for patterns.
        raise ConfigError(f"run.root {root!r}: a path without *, ? and [ is accepted")
    description = load_description(config.data.dataset)
    if config.data.allow_empty:
        raise ConfigError(
            f"data.allow_empty {list(config.data.allow_empty)}: a run needs all three splits; only "
            "`lengthwise examples` can leave one empty"
        )
    history = config.data.history
    try:
        schema_source(config, description)
        make_plan(description, config.model, history.protocol.value, history.max_length)
        cluster = read_cluster(config.train.workers, os.environ)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    if cluster is not None and not cluster.is_chief:
        raise ConfigError(
            f"by TF_CONFIG this is {cluster.name(cluster.index)}; `lengthwise worker CONFIG` is "
            "accepted there, and `lengthwise run` for the chief"
        )


def check_destination(config: RunConfig) -> None:
    """Checks now, not after hours of work, that ``push.destination`` can be pushed to.

    Raises:
        ConfigError: it, or what it would be made in, is no folder or not writable.
    """
    if config.push.destination is None:
        return
    destination = place = config.destination.resolve()
    while not place.exists():
        place = place.parent
    fault = "is no folder" if not place.is_dir() else "cannot be written to"
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        raise ConfigError(
            f"push.destination {str(destination)!r}: {place} {fault}; a folder is accepted that "
            "this user can write to, or make"
        )


def _run(config: RunConfig, root: Path, summary_path: Path | None) -> int:
    began = time.monotonic()
    log = root / "logs" / f"{datetime.datetime.now():%Y%m%dT%H%M%S}.log"
    prepare_environment()
    with captured_output(log) as console:
        log_to_stderr()
        logging.getLogger("apache_beam.typehints").setLevel(logging.WARNING)
        console.print(f"{config.run.name}: {root}  (log: {log})", style="bold")
        (root / "summary.json").unlink(missing_ok=True)
        write_text(root / RESOLVED_CONFIG, to_yaml(config))
        code, summary = _run_steps(config, root, console)
        summary.log = str(log)
        minutes, seconds = divmod(int(time.monotonic() - began), 60)
        try:
            _report(summary, console, f"{minutes} min {seconds} s", log)
        finally:
            # The one asked for first: it may lie on a disk that is not full.
            for path in filter(None, (summary_path, root / "summary.json")):
                summary.write(path)
    return code


def _run_steps(config: RunConfig, root: Path, console: Console) -> tuple[int, Summary]:
    with StepScreen(console) as screen:
        screen.start("Start")
        summary = Summary()
        code = 0
        try:
            # TFX and TensorFlow take ten seconds and more to import.
            with without_collection():
                from pipeline.collect import collect
                from pipeline.leftovers import remove_leftovers
                from pipeline.prepare import prepare
                from pipeline.runner import run_pipeline

            screen.finish()
            remove_leftovers(root)
            screen.start("Data")
            prepared = prepare(config)
            screen.finish(note=_data_note(prepared.plan.snapshot))
            run_pipeline(prepared, screen)
            collect(summary, root)
            summary.not_judged = find_not_judged(
                summary.slices, config, compared=bool(summary.baseline)
            )
            if summary.status == "not_blessed":
                code = EXIT_REFUSED
        except BaseException as error:
            _logger.exception("the run failed")
            code = exit_code(error)
            if code == EXIT_REFUSED:
                collect(summary, root)
            where = screen.current or "the run"
            if where != "Start" and (root / FAILED_DEAD_LETTER).exists():
                summary.dead_letter = str(root / FAILED_DEAD_LETTER)
            summary.error = f"{where}: {message_of(error)}"
        finally:
            if read_cluster(config.train.workers, os.environ) is not None:
                # Workers that still wait: the training was answered from the cache, or not reached.
                with contextlib.suppress(OSError):
                    Board(root / WORKERS).close()
        summary.steps = {
            step: {"seconds": seconds, "cached": step in screen.cached}
            for step, seconds in screen.seconds.items()
        }
    return code, summary


def _data_note(snapshot: str | None) -> str:
    return f"on snapshot {Path(snapshot).name}" if snapshot else ""


def exit_code(error: BaseException) -> int:
    """Returns the exit code that an error of a pipeline ends with."""
    from components.errors import DataRefused

    if isinstance(error, ConfigError | InputError):
        return EXIT_BAD_INPUT
    return EXIT_REFUSED if isinstance(error, DataRefused) else EXIT_FAULT


def message_of(error: BaseException) -> str:
    """Says what an error of a pipeline means to people."""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted; the next run picks up"
    from ml_metadata.errors import StatusError

    from components.errors import DataRefused, PushFailed
    from models.checkpoints import CheckpointError
    from models.training import TrainingError
    from pipeline.prepare import METADATA

    ours = (
        ConfigError,
        InputError,
        DataRefused,
        PushFailed,
        TrainingError,
        CheckpointError,
        WorkerError,
    )
    if isinstance(error, OSError) and error.filename:
        return f"{error.strerror}: {error.filename}"
    text = str(error).strip()
    if isinstance(error, ours):
        return text
    if isinstance(error, StatusError):
        # SQLite's words do not name the file, as where the disk is full.
        return f"{METADATA}: {first_words(text)[:300]}"
    # Not one of ours: its own words may fill pages, and all of them are in the log.
    if text.startswith("in user code:"):
        # TensorFlow's, around the error that a traced function ended with; the innermost is last.
        wrapped = re.findall(r"^\s*(\w+Error: .+)$", text, re.MULTILINE)
        if wrapped:
            return str(wrapped[-1])[:300]
    return f"{type(error).__name__}: {first_words(text)[:300]}".rstrip(": ")


def _report(summary: Summary, console: Console, duration: str, log: Path) -> None:
    if summary.overall:
        console.print()
        console.print(_metrics_table(summary))
    if summary.not_judged:
        listed = ", ".join(f"{name} ({reason})" for name, reason in summary.not_judged.items())
        text = f"not judged, below evaluation.min_slice_size or as stated: {listed}"
        console.print(text, soft_wrap=False)
    counters = {key: number for key, number in summary.counters.items() if "rejected" in key}
    if counters:
        listed = ", ".join(f"{n:,} {key.partition(':')[2]}" for key, n in counters.items())
        console.print(f"rows put aside: {listed}  ({summary.dead_letter})", markup=False)
    for refusal in summary.refusals:
        console.print(f"refused: {refusal}", style="yellow", markup=False)
    if summary.error:
        console.print(f"failed after {duration}: {summary.error}", style="red", markup=False)
        if summary.dead_letter and not counters:
            console.print(f"rows put aside: {summary.dead_letter}", markup=False)
        console.print(f"everything the frameworks printed: {log}")
    elif summary.status == "pushed":
        console.print(f"pushed after {duration}: {summary.version_folder}", style="green")
    elif summary.status == "unchanged":
        console.print(
            f"unchanged after {duration}: {summary.version_folder} serves this model already"
        )
    else:
        # On the first night there is no last good model.
        stays = "nothing is pushed, what served before stays"
        console.print(f"not blessed after {duration}: {stays}", style="yellow")


def _metrics_table(summary: Summary) -> Table:
    table = Table(title="test split", title_justify="left", box=None, padding=(0, 2, 0, 0))
    table.add_column("slice")
    names = ["example_count", "auc", "gauc", "log_loss", "calibration"]
    for name in names:
        table.add_column(name.replace("example_count", "examples"), justify="right")
    rows = {"overall": summary.overall}
    rows |= {name: values for name, values in summary.slices.items() if "," not in name}
    for name, values in rows.items():
        table.add_row(name, *(_figure(column, values.get(column)) for column in names))
    return table


def _figure(name: str, value: float | int | None) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if name == "example_count" else f"{value:.4f}"
