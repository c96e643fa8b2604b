"""A training of seconds, in this process or in one that is killed.

    python -m tests.models.tiny_training FOLDER SAVE MOMENT

trains in FOLDER and kills itself, kill -9, at the checkpoint number SAVE of this process: MOMENT is
``before`` it is written, ``during`` it, or ``after``. SAVE 0 lets it end.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from models.config import ActionFusion, ModelConfig, TrainConfig
from models.fitting import FitResult, fit
from models.plan import FIELDS, FIRST_INDEX, NUMBERS, USER_GROUP, Category, Number, RankerPlan
from models.ranker_factory import RankerFactory
from models.training_checkpoints import TrainingCheckpoints
from models.workers.checkpoints import WorkerCheckpoints
from models.workers.group import WorkerGroup
from schemas import features
from schemas.dataset_sections import FieldType, Scale
from schemas.loading import build

ENTRIES = 20
MAX_LENGTH = 8
PLAN = RankerPlan(
    item=Category(name=features.ITEM_ID, type=FieldType.INT),
    history_fields=(Category(name="category", type=FieldType.STRING),),
    categories=(Category(name="surface", type=FieldType.STRING),),
    numbers=(Number(name="age", scale=Scale.LOG1P),),
    fusion=ActionFusion.ADD,
    action_types=2,
    max_length=MAX_LENGTH,
    user=FieldType.INT,
    min_count=1,
)
MODEL: dict[str, Any] = {
    "backbone": "pooled", "length_groups": 2, "embedding_dim": 4, "hidden_units": [8],
    "dropout": 0.3, "embedding_dropout": 0.2,
    "embedding_init_std": 0.3,
}  # fmt: skip
TRAIN: dict[str, Any] = {
    "batch_size": 16, "max_epochs": 2, "patience": 2, "refit": True, "learning_rate": 0.01,
    "table_learning_rate": 0.03, "shuffle_buffer": 30, "checkpoint_minutes": 1e-9,
    "learning_rate_schedule": "linear",
}  # fmt: skip


def make_files(folder: Path) -> tuple[list[str], list[str]]:
    """Writes transformed examples: two files to train on, one to validate on."""
    return (
        [write_rows(folder / "train_0", 35, 0), write_rows(folder / "train_1.gz", 29, 1)],
        [write_rows(folder / "validation", 40, 2)],
    )


def make_factory(
    model: dict[str, Any] | None = None,
    train: dict[str, Any] | None = None,
    *,
    entries: int = ENTRIES,
) -> RankerFactory:
    """Makes rankers of the tiny size, for vocabularies of so many entries."""
    config = build(ModelConfig, {**MODEL, **(model or {})}, where="model")
    return RankerFactory(
        plan=PLAN,
        model=config,
        train=build(TrainConfig, {**TRAIN, **(train or {})}, where="train"),
        vocabulary_sizes=dict.fromkeys(PLAN.vocabularies, entries),
        strategy=tf.distribute.get_strategy(),
    )


def train(folder: Path, checkpoints: TrainingCheckpoints | None, **changes: Any) -> FitResult:
    """Trains on the examples in ``folder``."""
    tf.config.experimental.enable_op_determinism()
    files = [str(folder / name) for name in ("train_0", "train_1.gz")]
    return fit(
        make_factory(**changes),
        files,
        [str(folder / "validation")],
        run_dir=str(folder / "run"),
        checkpoints=checkpoints,
    )


def train_worker(
    arguments: dict[str, Any], strategy: tf.distribute.Strategy, scratch: str
) -> dict[str, Any]:
    """Trains as one of several workers; see :mod:`models.workers.process`."""
    tf.config.experimental.enable_op_determinism()
    folder, group = Path(arguments["folder"]), WorkerGroup(strategy)
    checkpoints = WorkerCheckpoints(
        str(folder / "checkpoints"), {"model": MODEL, "train": TRAIN}, group
    )
    if "kill" in arguments and arguments["kill"]["worker"] == group.index:
        how = signal.Signals[arguments["kill"].get("signal", "SIGKILL")]
        _kill_at(arguments["kill"]["save"], "after", WorkerCheckpoints, how)
    factory = make_factory(arguments["model"], arguments["train"])
    result = fit(
        dataclasses.replace(factory, strategy=strategy),
        [str(folder / name) for name in ("train_0", "train_1.gz")],
        [str(folder / "validation")],
        run_dir=scratch,
        checkpoints=checkpoints,
    )
    np.savez(folder / f"weights-{group.index}.npz", *weights_of(result))
    return result.to_plain()


def make_checkpoints(folder: Path) -> TrainingCheckpoints:
    """Returns the checkpoints that a killed training goes on from."""
    return TrainingCheckpoints(str(folder / "checkpoints"), {"model": MODEL, "train": TRAIN})


def weights_of(result: FitResult) -> list[np.ndarray]:
    """Returns all weights of the trained ranker."""
    return [weight.numpy() for weight in result.ranker.weights]


def write_rows(path: Path, count: int, seed: int) -> str:
    """Writes transformed examples, compressed if the name ends in .gz."""
    random = np.random.default_rng(seed)

    def index(size: int) -> list[int]:
        return [int(value) for value in random.integers(0, ENTRIES + FIRST_INDEX, size)]

    with tf.io.TFRecordWriter(str(path), "GZIP" if path.suffix == ".gz" else "") as file:
        for _ in range(count):
            length = int(random.integers(0, MAX_LENGTH + 1))
            row: dict[str, list[int] | list[float]] = {
                name: index(length) for name in PLAN.history_lists
            }
            row[features.HISTORY_ACTION] = [int(value) for value in random.integers(1, 3, length)]
            row |= {part.name: index(1) for part in PLAN.item_parts}
            row[FIELDS] = index(len(PLAN.categories))
            row[NUMBERS] = [float(value) for value in random.normal(size=len(PLAN.numbers))]
            row[features.LABEL] = [float(random.random() < 0.3)]
            row[USER_GROUP] = [int(random.integers(9))]
            file.write(serialize(row))
    return str(path)


def serialize(row: dict[str, Any]) -> bytes:
    """Returns a row as a serialized example."""
    feature = {
        name: tf.train.Feature(float_list=tf.train.FloatList(value=values))
        if name in (NUMBERS, features.LABEL)
        else tf.train.Feature(int64_list=tf.train.Int64List(value=values))
        for name, values in row.items()
    }
    example = tf.train.Example(features=tf.train.Features(feature=feature))
    # The same bytes in every process, so that a file cut at some byte is cut in the same record.
    return bytes(example.SerializeToString(deterministic=True))


def _kill_at(
    number: int,
    moment: str,
    kind: type[TrainingCheckpoints] = TrainingCheckpoints,
    how: signal.Signals = signal.SIGKILL,
) -> None:
    """Kills or stops this process at a checkpoint."""
    saves = 0
    save, rename = kind.save, os.rename

    def kill() -> None:
        os.kill(os.getpid(), how)

    def counted(self: TrainingCheckpoints, *args: Any, **kwargs: Any) -> str:
        nonlocal saves
        saves += 1
        if saves == number and moment == "before":
            kill()
        name = save(self, *args, **kwargs)
        if saves == number and moment == "after":
            kill()
        return name

    def renamed(source: Any, target: Any) -> None:
        if saves == number and moment == "during":
            kill()
        rename(source, target)

    kind.save = counted  # type: ignore[method-assign]
    os.rename = renamed  # type: ignore[assignment]


def _main(folder: Path, number: int, moment: str) -> None:
    _kill_at(number, moment)
    result = train(folder, make_checkpoints(folder))
    np.savez(folder / "weights.npz", *weights_of(result))
    (folder / "resumed_from").write_text(result.resumed_from)


if __name__ == "__main__":
    _main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
