"""``lengthwise worker``: takes part in the training of a run whose chief runs elsewhere."""

from __future__ import annotations

import argparse
import datetime
import logging
import os
from pathlib import Path

from models.progress_lines import log_to_stderr
from models.workers.board import FOLDER as WORKERS
from models.workers.board import Board
from models.workers.cluster import TF_CONFIG, Cluster, ClusterError, read_cluster
from models.workers.errors import WorkerError
from models.workers.member import take_part
from pipeline.config import RunConfig, load_config
from pipeline.environment import prepare_environment
from pipeline.exits import EXIT_FAULT
from pipeline.terminal import StepScreen, captured_output
from schemas.loading import ConfigError


def main(arguments: argparse.Namespace) -> int:
    """Waits for the chief's training and takes part in it."""
    config = load_config(arguments.config, arguments.overrides)
    cluster = find_cluster(config, arguments.index)
    root = Path(config.run.root).resolve()
    log = root / "logs" / f"worker-{cluster.index}-{datetime.datetime.now():%Y%m%dT%H%M%S}.log"
    prepare_environment()
    with captured_output(log) as console:
        log_to_stderr()
        name = cluster.name(cluster.index)
        console.print(f"{config.run.name}: {name} of {root}  (log: {log})", style="bold")
        try:
            with StepScreen(console) as screen:
                screen.start("Training")
                took_part = take_part(cluster, Board(root / WORKERS))
                screen.finish(note="" if took_part else "the run ended without one")
        except WorkerError as error:
            logging.getLogger(__name__).exception("the training failed")
            console.print(f"failed: {error}", style="red", markup=False)
            return EXIT_FAULT
    return 0


def find_cluster(config: RunConfig, index: int | None) -> Cluster:
    """Finds the workers and which of them this process is.

    Raises:
        ConfigError: there are none, or this is the chief.
    """
    if index is None and not os.environ.get(TF_CONFIG):
        raise ConfigError(f"--index is required where {TF_CONFIG} does not say who this is")
    try:
        cluster = read_cluster(config.train.workers, os.environ, index)
    except ClusterError as error:
        raise ConfigError(str(error)) from error
    if cluster is None:
        raise ConfigError(
            f"train.workers null: a worker needs the list of all, there or in {TF_CONFIG}"
        )
    if cluster.is_chief:
        raise ConfigError(
            f"{cluster.name(0)} trains with `lengthwise run`; 1 to {len(cluster.addresses) - 1} is "
            "accepted"
        )
    return cluster
