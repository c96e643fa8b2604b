"""Executor of SchemaGate: raises when the data is not fit to train on."""

from __future__ import annotations

import json
import logging
import os
import uuid
from typing import Any

from tensorflow_metadata.proto.v0 import anomalies_pb2
from tfx.components.statistics_gen import stats_artifact_utils
from tfx.dsl.components.base import base_executor
from tfx.dsl.io import fileio
from tfx.types import artifact_utils
from tfx.types.artifact import Artifact
from tfx.utils import io_utils

from components.errors import DataRefused
from components.schema_gate.checks import check_presence, check_splits, describe_anomalies

STATISTICS_KEY = "statistics"
SCHEMA_KEY = "schema"
ANOMALIES_KEY = "anomalies"
APPROVAL_KEY = "approval"
APPROVAL_FILE = "schema_gate.json"
# ExampleValidator writes its findings under this name.
ANOMALIES_FILE = "SchemaDiff.pb"

_LOG = logging.getLogger(__name__)


class Executor(base_executor.BaseExecutor):
    """Writes ``schema_gate.json`` if the data keeps its contract, and raises if not."""

    def Do(
        self,
        input_dict: dict[str, list[Artifact]],
        output_dict: dict[str, list[Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Checks statistics and anomalies of every split.

        Args:
            input_dict: ``statistics`` of StatisticsGen, ``schema``, and ``anomalies`` of
                ExampleValidator, which compared them.
            output_dict: ``approval``, a DataApproval artifact.
            exec_properties: ``max_length`` and, as a JSON list, ``allow_empty``.

        Raises:
            DataRefused: with a line for each reason.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        statistics = artifact_utils.get_single_instance(input_dict[STATISTICS_KEY])
        anomalies = artifact_utils.get_single_instance(input_dict[ANOMALIES_KEY])
        splits = artifact_utils.decode_split_names(statistics.split_names)
        by_split = {
            split: stats_artifact_utils.load_statistics(statistics, split).proto()
            for split in splits
        }
        allow_empty = json.loads(exec_properties["allow_empty"])
        reasons = check_splits(
            by_split, max_length=exec_properties["max_length"], allow_empty=allow_empty
        )
        schema_folder = artifact_utils.get_single_uri(input_dict[SCHEMA_KEY])
        schema = io_utils.SchemaReader().read(io_utils.get_only_uri_in_dir(schema_folder))
        reasons.extend(check_presence(by_split, schema))
        warnings: list[str] = []
        for split in artifact_utils.decode_split_names(anomalies.split_names):
            if split in allow_empty and not _examples(by_split.get(split)):
                continue
            errors, remarks = describe_anomalies(split, _read_anomalies(anomalies, split))
            reasons.extend(errors)
            warnings.extend(remarks)
        for warning in warnings:
            _LOG.warning("data anomaly that does not stop the run: %s", warning)
        if reasons:
            raise DataRefused(refusal(reasons))
        approval = artifact_utils.get_single_instance(output_dict[APPROVAL_KEY])
        approval.span = statistics.span
        examples = {split: _examples(by_split[split]) for split in splits}
        _write(approval.uri, {"status": "approved", "examples": examples, "warnings": warnings})


def refusal(reasons: list[str]) -> str:
    """Returns the message of a refusal, with a line for each reason."""
    unique = list(dict.fromkeys(reasons))
    head = f"the data was refused for {len(unique)} reason{'s' if len(unique) != 1 else ''}:"
    return "\n".join([head, *(f"  - {reason}" for reason in unique)])


def _examples(statistics: Any) -> int:
    if statistics is None:
        return 0
    return sum(int(data.num_examples) for data in statistics.datasets)


def _read_anomalies(artifact: Artifact, split: str) -> anomalies_pb2.Anomalies:
    path = os.path.join(artifact_utils.get_split_uri([artifact], split), ANOMALIES_FILE)
    with fileio.open(path, "rb") as file:
        return anomalies_pb2.Anomalies.FromString(file.read())


def _write(folder: str, content: dict[str, Any]) -> None:
    fileio.makedirs(folder)
    path = os.path.join(folder, APPROVAL_FILE)
    temporary = f"{path}.{uuid.uuid4().hex}"
    with fileio.open(temporary, "w") as file:
        file.write(json.dumps(content, indent=2) + "\n")
    fileio.rename(temporary, path, overwrite=True)
