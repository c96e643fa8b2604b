"""Writes a model to serve, with random weights, and examples for it.

    python -m benchmarks.serving_model FOLDER [--model din] [--length 100] [--examples 2000]
        [--graph FOLDER]

FOLDER gets ``versions/1``, an exported ranker, and ``examples.tfrecord``, examples with histories
of 0 to ``--length`` events. The other serving benchmarks take either. Scores say nothing, but each
call costs what it costs with a trained model of this size (``benchmarks/rank.py``).
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.rank import MODELS, load_graph, make_profile, make_row, run_config
from models.export import export_ranker
from models.plan import RankerPlan
from models.trainer import make_factory
from tests.models import fixtures

VERSIONS = "versions"
EXAMPLES = "examples.tfrecord"


def main(argv: Sequence[str] | None = None) -> None:
    """Writes both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", choices=MODELS, default="din")
    parser.add_argument("--length", type=int, default=100)
    parser.add_argument("--examples", type=int, default=2000)
    parser.add_argument("--graph", type=Path)
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as scratch:
        graph = load_graph(arguments.graph or Path(scratch), arguments.length)
        export(MODELS[arguments.model], graph, arguments.folder / VERSIONS / "1", arguments.length)
    random = np.random.default_rng(2)
    rows = [
        make_row(random, int(random.integers(arguments.length + 1)))
        for _ in range(arguments.examples)
    ]
    fixtures.write_examples(arguments.folder / EXAMPLES, rows)


def export(model: dict[str, Any], graph: Any, folder: Path, length: int) -> RankerPlan:
    """Exports a ranker with random weights.

    Args:
        model: the ``model`` section.
        graph: output of Transform.
        folder: where the SavedModel goes.
        length: longest history, in events.

    Returns:
        What it reads.
    """
    run = run_config(model, length)
    ranker = make_factory(run, graph, make_profile(length)).make()
    export_ranker(ranker, graph, str(folder), saved_config=run.plain)
    return ranker.plan


if __name__ == "__main__":
    main()
