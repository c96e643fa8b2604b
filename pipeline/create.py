"""The pipeline of a run, in the order in which the data flows."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import NamedTuple

from tfx.components.evaluator.component import Evaluator
from tfx.components.example_validator.component import ExampleValidator
from tfx.components.schema_gen.import_schema_gen.component import ImportSchemaGen
from tfx.components.statistics_gen.component import StatisticsGen
from tfx.dsl.components.base.base_node import BaseNode
from tfx.dsl.components.common.resolver import Resolver
from tfx.orchestration.metadata import sqlite_metadata_connection_config
from tfx.orchestration.pipeline import Pipeline
from tfx.proto import transform_pb2
from tfx.types import standard_artifacts
from tfx.types.channel import BaseChannel, Channel

from components.baseline.strategy import OtherBlessedModelStrategy
from components.evaluation.eval_config import EXTRACTORS_MODULE, build_eval_config
from components.example_gen.component import HistoryExampleGen
from components.pusher.component import VersionedPusher
from components.schema_gate.component import SchemaGate
from components.sequence_profile.component import SequenceProfile
from components.serving_canary.component import ServingCanary
from components.trainer.component import ProfiledTrainer
from components.transform.component import OrderedTransform
from models.config import TRANSFORM_KEYS, ModelConfig, TrainConfig
from models.embedding_widths import separate_tables
from models.plan import LEDGER_DIGEST_KEY, LEDGER_KEY
from models.warm_start_index import ledger_path, read_index
from models.workers import board as workers
from pipeline.prepare import (
    CHECKPOINTS,
    METADATA,
    PIPELINE,
    SNAPSHOTS,
    TRANSFORM_SOURCES,
    Prepared,
    source_hash,
)
from pipeline.summary import FAILED_DEAD_LETTER
from schemas import features
from schemas.loading import to_plain

_EVALUATION_SOURCES = (
    "schemas",
    "components/evaluation",
    "components/columns.py",
    "components/config.py",
    "models/metrics.py",
)
_TRAINER_SOURCES = ("models", "components/trainer")


def create_pipeline(prepared: Prepared, run_id: str, beam_args: Sequence[str]) -> Pipeline:
    """Makes the pipeline of a run; reads nothing but the source for its hashes.

    Args:
        prepared: the run, its inputs found and checked.
        run_id: differs from run to run; the pusher is never answered from the cache.
        beam_args: flags for Beam.
    """
    config, root = prepared.config, prepared.root
    data = prepare_examples(prepared)
    trainer = ProfiledTrainer(
        examples=data.transformed,
        transform_graph=data.transform_graph,
        profile=data.profile,
        run_fn="models.trainer.run_fn",
        train_split=features.TRAIN_SPLIT,
        eval_split=features.VALIDATION_SPLIT,
        custom_config={
            **trainer_config(prepared),
            "checkpoints": str(root / CHECKPOINTS),
            "workers": str(root / workers.FOLDER),
            **_warm_start(prepared),
        },
    ).with_id("Trainer")
    resolver = Resolver(
        strategy_class=OtherBlessedModelStrategy,
        model=Channel(type=standard_artifacts.Model),
        model_blessing=Channel(type=standard_artifacts.ModelBlessing),
        infra_blessing=Channel(type=standard_artifacts.InfraBlessing),
        candidate=trainer.outputs["model"],
    ).with_id("Resolver")
    evaluator = Evaluator(
        examples=data.raw,
        example_splits=[features.TEST_SPLIT],
        model=trainer.outputs["model"],
        baseline_model=resolver.outputs["model"],
        eval_config=build_eval_config(
            config.evaluation,
            source_hash=source_hash(*_EVALUATION_SOURCES),
        ),
        module_path=EXTRACTORS_MODULE,
    )
    canary = ServingCanary(
        model=trainer.outputs["model"],
        examples=data.raw,
        model_blessing=evaluator.outputs["blessing"],
        config=to_plain(config.canary),
        source_hash=source_hash("schemas", "serving", "components/serving_canary"),
    )
    pusher = VersionedPusher(
        model=trainer.outputs["model"],
        model_blessing=evaluator.outputs["blessing"],
        infra_blessing=canary.outputs["infra_blessing"] if config.canary.enabled else None,
        destination=str(config.destination.resolve()),
        run_id=run_id,
    ).with_id("Pusher")
    return make_pipeline(
        prepared,
        [
            *data.components,
            trainer,
            resolver,
            evaluator,
            *([canary] if config.canary.enabled else []),
            pusher,
        ],
        beam_args,
    )


class Examples(NamedTuple):
    """The steps from the raw log to transformed examples, and what later steps read of them."""

    components: list[BaseNode]
    raw: BaseChannel
    transformed: BaseChannel
    transform_graph: BaseChannel
    profile: BaseChannel


def prepare_examples(prepared: Prepared) -> Examples:
    """Makes the steps that check, profile and transform the examples."""
    config, root = prepared.config, prepared.root
    example_gen = HistoryExampleGen(
        # Neither changes the examples, so neither may invalidate them.
        data=_json({**to_plain(config.data), "schema": None, "generate": None}),
        description=_json(to_plain(prepared.description)),
        snapshot=prepared.plan.snapshot or "",
        snapshot_fingerprint=prepared.snapshot_fingerprint,
        snapshot_root=str(root / SNAPSHOTS),
        failed_dead_letter=str(root / FAILED_DEAD_LETTER),
        fingerprint=prepared.fingerprint,
        source_hash=source_hash("schemas", "beam_jobs", "components/example_gen"),
    ).with_id("ExampleGen")
    examples = example_gen.outputs["examples"]
    statistics_gen = StatisticsGen(examples=examples)
    schema_gen = ImportSchemaGen(schema_file=str(prepared.schema)).with_id("Schema")
    schema = schema_gen.outputs["schema"]
    validator = ExampleValidator(statistics=statistics_gen.outputs["statistics"], schema=schema)
    gate = SchemaGate(
        statistics=statistics_gen.outputs["statistics"],
        schema=schema,
        anomalies=validator.outputs["anomalies"],
        max_length=config.data.history.max_length,
        allow_empty=config.data.allow_empty,
        source_hash=source_hash("schemas", "components/schema_gate"),
    )
    profile = SequenceProfile(
        examples=examples,
        length_edges=config.data.length_edges,
        density_edges=config.data.density_edges,
        max_length=config.data.history.max_length,
        source_hash=source_hash("schemas", "components/sequence_profile", "components/columns.py"),
    )
    profile.add_upstream_node(gate)
    transform = OrderedTransform(
        examples=examples,
        schema=schema,
        preprocessing_fn="models.transform.preprocessing_fn",
        splits_config=transform_pb2.SplitsConfig(
            analyze=[features.TRAIN_SPLIT],
            transform=[features.TRAIN_SPLIT, features.VALIDATION_SPLIT],
        ),
        custom_config={**_custom_config(prepared, for_transform=True), **_id_ledger(prepared)},
        # StatisticsGen has looked at the raw examples; Transform's own would be two more passes.
        disable_statistics=True,
    ).with_id("Transform")
    transform.add_upstream_node(gate)
    return Examples(
        components=[
            example_gen,
            statistics_gen,
            schema_gen,
            validator,
            gate,
            profile,
            transform,
        ],
        raw=examples,
        transformed=transform.outputs["transformed_examples"],
        transform_graph=transform.outputs["transform_graph"],
        profile=profile.outputs["profile"],
    )


def make_pipeline(
    prepared: Prepared, components: Sequence[BaseNode], beam_args: Sequence[str]
) -> Pipeline:
    """Makes a pipeline of the run; all pipelines of a run share its cache."""
    root = prepared.root
    return Pipeline(
        pipeline_name=prepared.config.run.name,
        pipeline_root=str(root / PIPELINE),
        components=list(components),
        enable_cache=True,
        metadata_connection_config=sqlite_metadata_connection_config(str(root / METADATA)),
        beam_pipeline_args=list(beam_args),
    )


def trainer_config(prepared: Prepared) -> dict[str, str]:
    """Returns what a training is told of the run."""
    return _custom_config(prepared, for_transform=False)


def _custom_config(prepared: Prepared, *, for_transform: bool) -> dict[str, str]:
    config = prepared.config
    model, train = config.model, config.train
    if for_transform:
        kept = {key: getattr(model, key) for key in TRANSFORM_KEYS} | separate_tables(model)
        model, train = dataclasses.replace(ModelConfig(), **kept), TrainConfig()
    values = {
        "description": to_plain(prepared.description),
        "data": {
            "history": to_plain(config.data.history),
            "pack_impressions": config.data.pack_impressions,
        },
        "model": to_plain(model),
        "train": to_plain(train),
        "source_hash": source_hash(
            "schemas", *(TRANSFORM_SOURCES if for_transform else _TRAINER_SOURCES)
        ),
    }
    if not for_transform:
        values["data_fingerprint"] = prepared.fingerprint
    return {"lengthwise": _json(values)}


def _warm_start(prepared: Prepared) -> dict[str, str]:
    if not prepared.warm_start:
        return {}
    # The digest is for the cache: another model may stand at the same path.
    digest = read_index(prepared.warm_start)["weights_digest"]
    return {"warm_start": prepared.warm_start, "warm_start_digest": digest}


def _id_ledger(prepared: Prepared) -> dict[str, str]:
    """The ledger of ids that Transform goes on from: that of the model training starts from."""
    if not prepared.warm_start or prepared.config.model.vocabulary_expiry_days is None:
        return {}
    digest = read_index(prepared.warm_start).get("id_ledger_digest")
    if not digest:
        return {}
    return {LEDGER_KEY: ledger_path(prepared.warm_start), LEDGER_DIGEST_KEY: digest}


def _json(values: object) -> str:
    return json.dumps(values, sort_keys=True)
