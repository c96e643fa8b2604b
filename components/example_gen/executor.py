"""Executor of HistoryExampleGen."""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
from pathlib import Path
from typing import Any

from tfx.components.util import examples_utils
from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
from tfx.proto import example_gen_pb2
from tfx.types import Artifact, artifact_utils

from beam_jobs.config import DataConfig
from beam_jobs.examples import run_examples
from beam_jobs.plan import make_plan, with_snapshot
from components.example_gen.earlier import EARLIER_FILE, features_hash, link_earlier
from schemas import features
from schemas.dataset import DatasetDescription
from schemas.loading import build
from schemas.writing import write_text


class Executor(BaseBeamExecutor):
    """Runs the examples job into the artifact's folder."""

    def Do(
        self,
        input_dict: dict[str, list[Artifact]],
        output_dict: dict[str, list[Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes the examples, and the snapshot once they are complete; links earlier examples.

        Raises:
            InputError: the raw data cannot be used; the message says why.
        """
        config = build(DataConfig, json.loads(exec_properties["data"]), where="data")
        description = build(
            DatasetDescription, json.loads(exec_properties["description"]), where="description"
        )
        plan = make_plan(config, description)
        if exec_properties["snapshot"]:
            plan = with_snapshot(plan, exec_properties["snapshot"])
        fingerprint = exec_properties["fingerprint"]
        now = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%S")
        examples = artifact_utils.get_single_instance(output_dict["examples"])
        examples.split_names = artifact_utils.encode_split_names(list(features.SPLITS))
        snapshot = os.path.join(exec_properties["snapshot_root"], f"{now}-{fingerprint[:12]}")
        report = run_examples(
            plan,
            self._make_beam_pipeline,
            examples.uri,
            snapshot_output=snapshot,
            unchecked=True,
            fingerprint=fingerprint,
            failed_dead_letter=exec_properties["failed_dead_letter"],
        )
        examples_utils.set_payload_format(examples, example_gen_pb2.FORMAT_TF_EXAMPLE)
        earlier = link_earlier(
            plan.snapshot,
            config.earlier_examples,
            Path(examples.uri) / f"Split-{features.TRAIN_SPLIT}",
            features_hash(description),
        )
        note = Path(examples.uri) / EARLIER_FILE
        write_text(note, json.dumps(dataclasses.asdict(earlier)) + "\n")
        examples.set_string_custom_property("snapshot", snapshot)
        for split, count in report.examples.items():
            examples.set_int_custom_property(f"examples_{split}", count)
