"""``lengthwise experiment``: trains a grid of models and seeds and compares them."""

from __future__ import annotations

import argparse
import datetime
import os
import subprocess
import sys
from pathlib import Path

from beam_jobs.errors import InputError
from pipeline import lock
from pipeline.exits import EXIT_BAD_INPUT, EXIT_FAULT, EXIT_OK
from pipeline.experiments.grid import Grid, load_grid
from pipeline.experiments.grid_file import load_file
from schemas.loading import ConfigError


def main(arguments: argparse.Namespace) -> int:
    """Trains what is missing and writes the tables."""
    try:
        grid = load_grid(
            arguments.grid, arguments.overrides, only=arguments.only, seeds=arguments.seeds
        )
        # The tables are of the whole grid, whatever part of it is looked at this time.
        seeds = [*load_file(arguments.grid).seeds, *arguments.seeds]
        whole = load_grid(arguments.grid, arguments.overrides, seeds=seeds)
        results = Path(arguments.results).resolve() if arguments.results else None
        if arguments.report:
            if results is not None and not results.exists():
                raise ConfigError(f"--results {results}: no such file")
        elif arguments.background:
            return _detach(grid, arguments)
        if arguments.report and not arguments.diagnostics:
            return _report(whole, results)
        with lock.hold(grid.root):
            return _run(
                grid,
                whole,
                results,
                train=not arguments.report,
                diagnostics=arguments.diagnostics,
            )
    except (ConfigError, InputError, lock.LockedError) as error:
        print(f"lengthwise: {error}", file=sys.stderr)
        return EXIT_FAULT if isinstance(error, lock.LockedError) else EXIT_BAD_INPUT


def _run(grid: Grid, whole: Grid, results: Path | None, *, train: bool, diagnostics: bool) -> int:
    from pipeline.experiments.example_sets import check_inputs
    from pipeline.experiments.run import RESULTS, Places, diagnose_cells, run_cells

    check_inputs(grid.cells.values())
    places = Places(root=grid.root, results=results or grid.root / RESULTS)
    failed = run_cells(grid, places, _say) if train else []
    if diagnostics:
        failed += diagnose_cells(grid, places, _say)
    code = _report(whole, results)
    if failed:
        titles = ", ".join(cell.title for cell, _ in failed)
        print(
            f"lengthwise: {len(failed)} cells failed: {titles}  ({places.failures})",
            file=sys.stderr,
        )
        return EXIT_FAULT
    return code


def _report(grid: Grid, results: Path | None) -> int:
    from pipeline.experiments.report import write_report
    from pipeline.experiments.run import RESULTS, Places

    places = Places(root=grid.root, results=results or grid.root / RESULTS)
    _say(f"tables: {write_report(grid, places)}")
    return EXIT_OK


def _detach(grid: Grid, arguments: argparse.Namespace) -> int:
    """Starts the same command in a session of its own, which outlives the terminal."""
    from pipeline.experiments.example_sets import check_inputs
    from pipeline.experiments.run import source_path

    check_inputs(grid.cells.values())
    with lock.hold(grid.root):
        pass  # another run of the folder is told now, not in a log that nobody reads
    log = grid.root / "logs" / f"{grid.name}-{datetime.datetime.now():%Y%m%dT%H%M%S}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "pipeline.cli", *_in_foreground(arguments)],
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": source_path()},
        )
    _say(f"{grid.name} runs in the background as process {process.pid}")
    _say(f"follow it: tail -f {log}")
    _say(f"stop it:   kill {process.pid}   (the same command goes on later)")
    return EXIT_OK


def _in_foreground(arguments: argparse.Namespace) -> list[str]:
    """Returns the arguments of the same command without ``--background``."""
    given = ["experiment", arguments.grid]
    given += [part for override in arguments.overrides for part in ("--set", override)]
    for name in ("only", "seeds"):
        if values := getattr(arguments, name):
            given += [f"--{name}", *map(str, values)]
    if arguments.results:
        given += ["--results", arguments.results]
    return [*given, "--diagnostics"] if arguments.diagnostics else given


def _say(line: str) -> None:
    print(line, flush=True)
