"""``run_fn`` for the TFX Trainer: from transformed examples to an exported ranker.

It reads ``fn_args.custom_config``:

- ``lengthwise``: JSON text, see :func:`models.plan.read_run_config`;
- ``profile``: path of the SequenceProfile's JSON;
- ``checkpoints``: folder, the same in every execution, for the checkpoints that a killed training
  goes on from; without it there are none;
- ``warm_start``: folder of the exported model to start from; without it there is none;
- ``workers``: folder that all workers share, where the chief announces the training.

and writes

- the SavedModel at ``fn_args.serving_model_dir``, with the resolved configuration inside;
- ``training_summary.json`` beside that folder, and the same file in ``fn_args.model_run_dir``;
- the exported weights and the files of TensorBoard under ``fn_args.model_run_dir``;
- what another training needs to start from the model, in the model's ``assets.extra``.

With several workers, by ``TF_CONFIG`` or ``train.workers``, ``run_fn`` is the chief's: it trains in
a process of its own together with those of the others, then exports what was trained here.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import os
import types
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import tensorflow as tf
import tensorflow_transform as tft
from tensorflow.python.framework import config as framework_config

from models.checkpoints import read_checkpoint, write_checkpoint
from models.export import export_ranker
from models.files import write_json
from models.fitting import FitResult, fit
from models.inputs import list_files
from models.monitor import memory_mb
from models.plan import RunConfig, read_run_config
from models.ranker import Ranker
from models.ranker_factory import RankerFactory
from models.table_reports import find_ledger, id_reports, rounding_cost
from models.training import check_classes
from models.training_checkpoints import TrainingCheckpoints
from models.training_identity import training_identity
from models.warm_start import WarmStartReport, warm_start, write_warm_start
from models.workers.board import Board, Training
from models.workers.checkpoints import WorkerCheckpoints
from models.workers.cluster import Cluster, read_cluster
from models.workers.errors import WorkerError
from models.workers.group import WorkerGroup
from models.workers.supervisor import supervise
from schemas import features
from schemas.profile import SequenceProfile
from schemas.writing import undefined_as_none

logger = logging.getLogger(__name__)

PROFILE_KEY = "profile"
CHECKPOINTS_KEY = "checkpoints"
WARM_START_KEY = "warm_start"
WORKERS_KEY = "workers"
DATA_FINGERPRINT_KEY = "data_fingerprint"
SUMMARY_FILE = "training_summary.json"
CHECKPOINT = "best_weights"


def run_fn(fn_args: Any) -> None:
    """Trains and exports a ranker; called by the TFX Trainer.

    Args:
        fn_args: ``tfx.components.FnArgs``.

    Raises:
        models.training.TrainingError: nothing usable can come of the examples.
        ValueError: the configuration cannot be used.
    """
    inputs = TrainingInputs.read(fn_args)
    cluster = read_cluster(inputs.config.train.workers, os.environ)
    with determinism(inputs.config.train.deterministic):
        factory = inputs.make_factory(make_strategy())
        checkpoints = inputs.find_checkpoints(factory)
        if cluster is None:
            result = inputs.fit(factory, fn_args.model_run_dir, checkpoints)
            write_checkpoint(result.ranker, _weights(fn_args))
            devices = factory.strategy.num_replicas_in_sync
        else:
            result, devices = _fit_on_workers(fn_args, cluster, factory, checkpoints)
        summary = {
            **_summary(inputs.config, factory, result, devices),
            **id_reports(fn_args.transform_graph_path),
        }
        logger.info("exporting to %s", fn_args.serving_model_dir)
        exported = factory.make_for_serving(result.ranker)
        summary["export"] = rounding_cost(factory, exported, inputs.validation_files)
        summary["export"] |= export_ranker(
            exported,
            inputs.transform_output,
            fn_args.serving_model_dir,
            saved_config={**inputs.config.plain, "chosen_epoch": result.chosen_epoch},
            precision=inputs.config.train.export_tables,
        )
        write_warm_start(
            fn_args.serving_model_dir,
            exported,
            inputs.vocabularies,
            inputs.config.plain.get(DATA_FINGERPRINT_KEY, ""),
            find_ledger(fn_args.transform_graph_path),
        )
    for folder in (fn_args.model_run_dir, os.path.dirname(fn_args.serving_model_dir)):
        write_json(os.path.join(folder, SUMMARY_FILE), undefined_as_none(summary))
    if checkpoints is not None:
        checkpoints.remove()


def train_worker(
    arguments: dict[str, Any], strategy: tf.distribute.Strategy, scratch: str
) -> dict[str, Any] | None:
    """Trains together with the other workers; see :mod:`models.workers.process`.

    Args:
        arguments: what ``run_fn`` reads of its ``fn_args``.
        strategy: over the workers.
        scratch: folder for what only the chief's is kept of.

    Returns:
        In the chief, the plain values of the result, whose weights it has written.
    """
    fn_args = types.SimpleNamespace(**arguments)
    group = WorkerGroup(strategy)
    inputs = TrainingInputs.read(fn_args)
    if not group.is_chief:
        fn_args.model_run_dir = scratch
    with determinism(inputs.config.train.deterministic):
        factory = inputs.make_factory(strategy)
        checkpoints = inputs.find_checkpoints(factory, group)
        result = inputs.fit(factory, fn_args.model_run_dir, checkpoints)
        write_checkpoint(result.ranker, _weights(fn_args))
    if not group.is_chief:
        return None
    return {"fit": result.to_plain(), "devices": strategy.num_replicas_in_sync}


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingInputs:
    """What a training reads, the same in every worker."""

    config: RunConfig
    custom_config: dict[str, Any]
    transform_output: tft.TFTransformOutput
    train_files: list[str]
    validation_files: list[str]
    profile: SequenceProfile | None
    vocabularies: dict[str, Sequence[bytes]]

    @staticmethod
    def read(fn_args: Any) -> TrainingInputs:
        config = read_run_config(fn_args.custom_config)
        transform_output = tft.TFTransformOutput(fn_args.transform_graph_path)
        profile = read_profile(fn_args)
        if profile is not None:
            positives = round(profile.label_mean * profile.examples)
            check_classes(profile.examples, positives, split=features.TRAIN_SPLIT)
        return TrainingInputs(
            config=config,
            custom_config=fn_args.custom_config,
            transform_output=transform_output,
            train_files=list_files(fn_args.train_files, split=features.TRAIN_SPLIT),
            validation_files=list_files(fn_args.eval_files, split=features.VALIDATION_SPLIT),
            profile=profile,
            vocabularies={
                name: transform_output.vocabulary_by_name(name) for name in config.plan.vocabularies
            },
        )

    def make_factory(self, strategy: tf.distribute.Strategy) -> RankerFactory:
        return make_factory(self.config, self.transform_output, self.profile, strategy)

    def find_checkpoints(
        self, factory: RankerFactory, group: WorkerGroup | None = None
    ) -> TrainingCheckpoints | None:
        folder = self.custom_config.get(CHECKPOINTS_KEY)
        if not folder:
            return None
        identity = training_identity(
            self.config,
            factory,
            [*self.train_files, *self.validation_files],
            self.vocabularies,
            warm_start=self.custom_config.get(WARM_START_KEY),
        )
        if group is not None:
            return WorkerCheckpoints(folder, identity, group)
        return TrainingCheckpoints(folder, identity)

    def fit(
        self, factory: RankerFactory, run_dir: str, checkpoints: TrainingCheckpoints | None
    ) -> FitResult:
        return fit(
            factory,
            self.train_files,
            self.validation_files,
            run_dir=run_dir,
            checkpoints=checkpoints,
            prepare=self._prepare,
        )

    @property
    def _prepare(self) -> Callable[[Ranker], WarmStartReport] | None:
        earlier = self.custom_config.get(WARM_START_KEY)
        if not earlier:
            return None
        return functools.partial(warm_start, vocabularies=self.vocabularies, model=earlier)


def _fit_on_workers(
    fn_args: Any,
    cluster: Cluster,
    factory: RankerFactory,
    checkpoints: TrainingCheckpoints | None,
) -> tuple[FitResult, int]:
    """Announces the training and takes part in it; returns the result and the devices it had."""
    folder = fn_args.custom_config.get(WORKERS_KEY)
    if not folder or checkpoints is None:
        raise ValueError(
            f"custom_config: {WORKERS_KEY} and {CHECKPOINTS_KEY} are needed for several workers"
        )
    training = Training(
        id=uuid.uuid4().hex,
        addresses=cluster.addresses,
        target=f"{__name__}.{train_worker.__name__}",
        arguments={
            "custom_config": fn_args.custom_config,
            "transform_graph_path": fn_args.transform_graph_path,
            "train_files": list(fn_args.train_files),
            "eval_files": list(fn_args.eval_files),
            "model_run_dir": fn_args.model_run_dir,
        },
        stall_seconds=60 * factory.train.stall_minutes,
    )
    logger.info("training on %d workers: %s", len(cluster.addresses), list(cluster.addresses))
    board = Board(folder)
    board.announce(training)
    try:
        outcome = supervise(training, cluster, board)
    except WorkerError as error:
        raise WorkerError(
            f"{error}; {checkpoints.describe_last()}; start all workers again to go on from there"
        ) from error
    ranker = factory.make()
    read_checkpoint(ranker, _weights(fn_args))
    return FitResult.from_plain(outcome["fit"], ranker), int(outcome["devices"])


def _weights(fn_args: Any) -> str:
    return os.path.join(fn_args.model_run_dir, CHECKPOINT)


def make_factory(
    config: RunConfig,
    transform_output: tft.TFTransformOutput,
    profile: SequenceProfile | None,
    strategy: tf.distribute.Strategy | None = None,
) -> RankerFactory:
    """Gathers what rankers are made from; all devices here are used without a strategy."""
    plan = config.plan
    sizes = {name: sum(plan.hashed(name).values()) for name in plan.tables}
    for name in plan.vocabularies:
        sizes[name] += int(transform_output.vocabulary_size_by_name(name))
    return RankerFactory(
        plan=plan,
        model=config.model,
        train=config.train,
        vocabulary_sizes=sizes,
        strategy=strategy or make_strategy(),
        profile=profile,
    )


def make_strategy() -> tf.distribute.Strategy:
    """Returns a strategy over all GPUs, or else over all logical CPU devices."""
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    if len(devices) == 1:
        # The default strategy does the same without the cost of an all-reduce.
        return tf.distribute.get_strategy()
    return tf.distribute.MirroredStrategy([device.name for device in devices])


def read_profile(fn_args: Any) -> SequenceProfile | None:
    """Reads the SequenceProfile, if the pipeline hands one over."""
    path = (fn_args.custom_config or {}).get(PROFILE_KEY)
    return SequenceProfile.read(path) if path else None


def _summary(
    config: RunConfig, factory: RankerFactory, result: FitResult, devices: int
) -> dict[str, Any]:
    chosen = result.epochs[result.chosen_epoch - 1]
    ranker = result.ranker
    return {
        "chosen_epoch": result.chosen_epoch,
        "refit": config.train.refit,
        "validation": chosen.validation,
        "epochs": [dataclasses.asdict(epoch) for epoch in result.epochs],
        "refit_epochs": [dataclasses.asdict(epoch) for epoch in result.refit_epochs],
        "seconds": result.seconds,
        "resumed_from": result.resumed_from,
        "warm_start": dataclasses.asdict(result.warm_start) if result.warm_start else None,
        "examples_per_second": chosen.examples_per_second,
        "tokens_per_second": chosen.tokens_per_second,
        "padding_share": chosen.padding_share,
        "input_wait_share": chosen.input_wait_share,
        "memory_mb": memory_mb(),
        "devices": devices,
        "parameters": {
            "tables": sum(int(tf.size(table)) for table in ranker.tables),
            "dense": sum(int(tf.size(weight)) for weight in ranker.dense_weights),
        },
        "vocabulary_sizes": dict(factory.vocabulary_sizes),
        "config": config.plain,
    }


@contextlib.contextmanager
def determinism(wanted: bool) -> Iterator[None]:
    """Switches deterministic kernels on, and off again for what runs later in this process."""
    if not wanted:
        yield
        return
    tf.config.experimental.enable_op_determinism()
    try:
        yield
    finally:
        framework_config.disable_op_determinism()
