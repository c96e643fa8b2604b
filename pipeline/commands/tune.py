"""``lengthwise tune``: searches keys of the configuration by the validation AUC."""

from __future__ import annotations

import argparse
import datetime
import json
import logging
import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from models.progress_lines import log_to_stderr
from models.tuning.config import TuneConfig
from pipeline import lock
from pipeline.commands.run import check_run, exit_code, message_of
from pipeline.config import RunConfig, check_searched_keys, load_config, to_yaml
from pipeline.environment import prepare_environment
from pipeline.exits import EXIT_BAD_INPUT, EXIT_FAULT
from pipeline.terminal import StepScreen, captured_output
from schemas.loading import ConfigError, build, set_keys, to_plain
from schemas.writing import write_text

BEST_CONFIG = "best.yaml"
RESULTS = "trials.json"

_logger = logging.getLogger(__name__)


def main(arguments: argparse.Namespace) -> int:
    """Searches and writes the best configuration."""
    try:
        config = load_config(arguments.config, arguments.overrides)
        if not config.tune.keys:
            raise ConfigError(
                "tune.keys: nothing to search; {train.learning_rate: {min: 1.0e-4, max: 1.0e-2, "
                "scale: log}} is accepted, for instance"
            )
        check_searched_keys(config)
        check_run(config)
        root = Path(config.run.root).resolve()
        with lock.hold(root):
            return _tune(config, root)
    except (ConfigError, lock.LockedError, OSError) as error:
        print(f"lengthwise: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT if isinstance(error, ConfigError) else EXIT_FAULT


def best_config(config: RunConfig, values: dict[str, Any]) -> RunConfig:
    """Returns the configuration with the best values, and without the search."""
    plain = set_keys({**to_plain(config), "tune": to_plain(TuneConfig())}, values)
    return build(RunConfig, plain, where="the best trial")


def _tune(config: RunConfig, root: Path) -> int:
    log = root / "logs" / f"tune-{datetime.datetime.now():%Y%m%dT%H%M%S}.log"
    prepare_environment()
    with captured_output(log) as console:
        log_to_stderr()
        trials, keys = config.tune.trials, ", ".join(config.tune.keys)
        console.print(f"{config.run.name}: {root}  (log: {log})", style="bold")
        console.print(f"{trials} trials at most of {keys}")
        with StepScreen(console) as screen:
            screen.start("Start")
            try:
                results = _search(config, root, screen)
            except BaseException as error:
                _logger.exception("the search failed")
                console.print(
                    f"failed: {screen.current or 'the search'}: {message_of(error)}",
                    style="red",
                    markup=False,
                )
                console.print(f"everything the frameworks printed: {log}")
                return exit_code(error)
        _report(config, root, results, console)
    return 0


def _search(config: RunConfig, root: Path, screen: StepScreen) -> list[dict[str, Any]]:
    """Runs the pipeline and returns the values and the score of each trial, the best first."""
    # TFX and TensorFlow take ten seconds and more to import.
    from models.tuning.space import read_values
    from pipeline.collect import artifacts_of_last_run
    from pipeline.create_tuning import create_tuning_pipeline
    from pipeline.leftovers import remove_leftovers
    from pipeline.prepare import METADATA, prepare
    from pipeline.runner import run_pipeline

    screen.finish()
    remove_leftovers(root)
    screen.start("Data")
    prepared = prepare(config)
    screen.finish()
    run_pipeline(prepared, screen, create=create_tuning_pipeline)
    [folder] = [
        Path(artifact.uri)
        for kind, artifact in artifacts_of_last_run(root / METADATA)
        if kind == "TunerResults"
    ]
    rows = json.loads((folder / "tuner_results.json").read_text(encoding="utf-8"))
    return [{"auc": row["score"], **read_values(config.tune, row)} for row in rows]


def _report(config: RunConfig, root: Path, results: list[dict[str, Any]], console: Console) -> None:
    folder = root / "tune"
    values = {key: results[0][key] for key in config.tune.keys}
    write_text(folder / RESULTS, json.dumps(results, indent=2) + "\n")
    write_text(folder / BEST_CONFIG, to_yaml(best_config(config, values)))
    chosen = ", ".join(f"{key} {json.dumps(value)}" for key, value in values.items())
    console.print(
        f"best of {len(results)} trials: validation AUC {results[0]['auc']:.4f} with {chosen}",
        style="green",
        markup=False,
    )
    console.print(f"lengthwise run {folder / BEST_CONFIG}")
