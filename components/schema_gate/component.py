"""SchemaGate: stops the run before Transform when the data is not fit to train on.

ExampleValidator only marks anomalies. Let Transform depend on this component.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import channel, standard_artifacts
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from components import artifacts
from components.schema_gate import executor


class SchemaGateSpec(ComponentSpec):
    """Inputs, outputs and properties of SchemaGate."""

    PARAMETERS = {
        "max_length": ExecutionParameter(type=int),
        "allow_empty": ExecutionParameter(type=str),
        "source_hash": ExecutionParameter(type=str, optional=True),
    }
    INPUTS = {
        executor.STATISTICS_KEY: ChannelParameter(type=standard_artifacts.ExampleStatistics),
        executor.SCHEMA_KEY: ChannelParameter(type=standard_artifacts.Schema),
        executor.ANOMALIES_KEY: ChannelParameter(type=standard_artifacts.ExampleAnomalies),
    }
    OUTPUTS = {executor.APPROVAL_KEY: ChannelParameter(type=artifacts.DataApproval)}


class SchemaGate(base_component.BaseComponent):
    """Raises :class:`components.errors.DataRefused` with every reason to refuse the data.

    Inputs: ``statistics`` (ExampleStatistics), ``schema`` (Schema), ``anomalies``
    (ExampleAnomalies).
    Outputs: ``approval`` (DataApproval), ``schema_gate.json`` with the examples of each split.
    """

    SPEC_CLASS = SchemaGateSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)

    def __init__(
        self,
        statistics: channel.BaseChannel,
        schema: channel.BaseChannel,
        anomalies: channel.BaseChannel,
        *,
        max_length: int,
        allow_empty: Sequence[str] = (),
        source_hash: str | None = None,
    ) -> None:
        """Builds the component.

        Args:
            statistics: channel of StatisticsGen's statistics.
            schema: channel of the schema that they were compared with.
            anomalies: channel of ExampleValidator's anomalies.
            max_length: maximum history length, in events; the schema does not know it.
            allow_empty: splits that may be empty.
            source_hash: hash of the code; a different one is a different cache entry.
        """
        super().__init__(
            spec=SchemaGateSpec(
                statistics=statistics,
                schema=schema,
                anomalies=anomalies,
                max_length=max_length,
                allow_empty=json.dumps(list(allow_empty)),
                source_hash=source_hash,
                approval=channel.Channel(type=artifacts.DataApproval),
            )
        )
