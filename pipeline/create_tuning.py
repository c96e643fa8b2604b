"""The pipeline of a search: the steps of a run up to Transform, then the Tuner."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from tfx.orchestration.pipeline import Pipeline

from components.tuner.component import ProfiledTuner
from pipeline.create import make_pipeline, prepare_examples, trainer_config
from pipeline.prepare import Prepared, source_hash
from schemas import features
from schemas.loading import to_plain

TUNE = "tune"


def create_tuning_pipeline(prepared: Prepared, run_id: str, beam_args: Sequence[str]) -> Pipeline:
    """Makes the pipeline of a search; what a run did already is answered from its cache.

    Args:
        prepared: the run, its inputs found and checked.
        run_id: not used; a search that has ended is answered from the cache.
        beam_args: flags for Beam.
    """
    data = prepare_examples(prepared)
    tuner = ProfiledTuner(
        examples=data.transformed,
        transform_graph=data.transform_graph,
        profile=data.profile,
        tuner_fn="models.tuning.tuner.tuner_fn",
        train_split=features.TRAIN_SPLIT,
        eval_split=features.VALIDATION_SPLIT,
        custom_config={
            **trainer_config(prepared),
            "tune": json.dumps(to_plain(prepared.config.tune), sort_keys=True),
            "tune_folder": str(state_folder(prepared)),
        },
    ).with_id("Tuner")
    return make_pipeline(prepared, [*data.components, tuner], beam_args)


def state_folder(prepared: Prepared) -> Path:
    """Returns the folder of a search's state: another one where the trials would be others.

    The number of trials may grow; whatever else differs makes scores that cannot be compared.
    """
    tune = to_plain(prepared.config.tune)
    del tune["trials"]
    # What the examples follow from beside the raw data, which training is told of.
    examples = [
        prepared.snapshot_fingerprint,
        prepared.schema.name,
        source_hash("beam_jobs", "components"),
    ]
    text = json.dumps([trainer_config(prepared), examples, tune], sort_keys=True)
    digest = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
    return prepared.root / TUNE / f"search-{digest}"
