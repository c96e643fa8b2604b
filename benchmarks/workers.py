"""Examples a second of two workers on two cores against one worker on one core.

    python -m benchmarks.workers --backbone din --steps 20 --rounds 3

Each worker has one core, and so one thread, and the same batch as the single one, in memory, of
the workload of ``benchmarks/workload.py``. The two sides take turns, each in new processes. Run
it from the checkout, with ``TF_USE_LEGACY_KERAS=1``.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from pathlib import Path
from typing import Any

from models.workers.board import Board, Training
from models.workers.cluster import Cluster
from models.workers.member import take_part
from models.workers.supervisor import supervise

_WARM_UP = 3


def measure(arguments: dict[str, Any], strategy: Any, scratch: str) -> dict[str, float]:
    """Trains for some steps and returns the examples a second of all workers together."""
    import tensorflow as tf

    from benchmarks.workload import Workload
    from models.config import ModelConfig, TrainConfig
    from models.plan import FIELDS
    from models.ranker_factory import RankerFactory
    from models.workers.group import WorkerGroup
    from schemas import features
    from schemas.loading import build

    group = WorkerGroup(strategy)
    work = Workload(**arguments["workload"])
    sizes = {"embedding_dim": work.embedding_dim, "hidden_units": work.hidden_units}
    factory = RankerFactory(
        plan=work.plan,
        model=build(ModelConfig, {**sizes, "backbone": arguments["backbone"]}, where="model"),
        train=build(TrainConfig, {"batch_size": work.batch_size * group.count}, where="train"),
        vocabulary_sizes={features.ITEM_ID: work.items, FIELDS: work.fields * work.field_values},
        strategy=strategy,
        profile=work.profile,
    )
    ranker = factory.make()
    batches = work.batches(4, seed=1 + group.index)
    spec = {
        name: tf.RaggedTensorSpec([None, None], tf.int64)
        if isinstance(value, tf.RaggedTensor)
        else tf.TensorSpec([None, *value.shape[1:]], value.dtype)
        for name, value in batches[0].items()
    }

    @tf.function(input_signature=[spec])
    def step(batch: Any) -> Any:
        return strategy.run(ranker.train_step, args=(batch,))["total_loss"]

    for index in range(_WARM_UP):
        step(batches[index % len(batches)]).numpy()
    group.from_chief([0.0])
    began = time.monotonic()
    for index in range(arguments["steps"]):
        step(batches[index % len(batches)]).numpy()
    group.from_chief([0.0])
    seconds = time.monotonic() - began
    return {"rate": arguments["steps"] * work.batch_size * group.count / seconds}


def measure_two(arguments: dict[str, Any]) -> float:
    """Measures two workers, each on a core of its own."""
    addresses = (_free_address(), _free_address())
    training = Training(
        id=uuid.uuid4().hex,
        addresses=addresses,
        target="benchmarks.workers.measure",
        arguments=arguments,
        stall_seconds=600.0,
    )
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        board = Board(Path(folder))

        def member() -> None:
            # Of this thread alone, and of the process that it starts.
            os.sched_setaffinity(0, {cores[1]})
            take_part(Cluster(addresses=addresses, index=1), board)

        thread = threading.Thread(target=member)
        thread.start()
        time.sleep(0.5)
        board.announce(training)
        os.sched_setaffinity(0, {cores[0]})
        try:
            result = supervise(training, Cluster(addresses=addresses, index=0), board)
        finally:
            os.sched_setaffinity(0, set(cores))
            thread.join()
    return float(result["rate"])


def measure_one(arguments: dict[str, Any]) -> float:
    """Measures one worker on one core."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[0]})
    try:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.workers", "--single", json.dumps(arguments)],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
    finally:
        os.sched_setaffinity(0, set(cores))
    return float(json.loads(done.stdout.strip().splitlines()[-1])["rate"])


def main() -> None:
    """Measures both sides in turn and prints the ratio of their medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", default="din")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=1024)
    parser.add_argument("--items", type=int, default=500_000)
    parser.add_argument("--single", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.single:
        import tensorflow as tf

        print(json.dumps(measure(json.loads(given.single), tf.distribute.get_strategy(), "")))
        return
    if len(os.sched_getaffinity(0)) < 2:
        parser.error("two cores are needed")
    arguments = {
        "backbone": given.backbone,
        "steps": given.steps,
        "workload": {"items": given.items, "batch_size": given.batch_size},
    }
    ones, twos = [], []
    for number in range(given.rounds):
        ones.append(measure_one(arguments))
        twos.append(measure_two(arguments))
        print(
            f"round {number + 1}: one {ones[-1]:,.0f}, two {twos[-1]:,.0f} examples/s, "
            f"ratio {twos[-1] / ones[-1]:.2f}",
            flush=True,
        )
    ratio = statistics.median(twos) / statistics.median(ones)
    load = os.getloadavg()[0]
    print(f"{given.backbone}: two workers {ratio:.2f} times one (load {load:.1f} at the end)")


def _free_address() -> str:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{listener.getsockname()[1]}"


if __name__ == "__main__":
    main()
