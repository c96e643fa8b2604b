"""SequenceProfile: lengths, densities and proposed bucket edges of the training split."""

from __future__ import annotations

import json
from collections.abc import Sequence

from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import channel, standard_artifacts
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from components import artifacts
from components.sequence_profile import executor


class SequenceProfileSpec(ComponentSpec):
    """Inputs, outputs and properties of SequenceProfile."""

    PARAMETERS = {
        "length_edges": ExecutionParameter(type=str),
        "density_edges": ExecutionParameter(type=str),
        "max_length": ExecutionParameter(type=int),
        "source_hash": ExecutionParameter(type=str, optional=True),
    }
    INPUTS = {executor.EXAMPLES_KEY: ChannelParameter(type=standard_artifacts.Examples)}
    OUTPUTS = {executor.PROFILE_KEY: ChannelParameter(type=artifacts.SequenceProfile)}


class SequenceProfile(base_component.BaseComponent):
    """Reads the training split once and writes what models and slices are set by.

    Inputs: ``examples`` (Examples with a train split).
    Outputs: ``profile`` (SequenceProfile), the JSON of
    :class:`schemas.profile.SequenceProfile`.
    """

    SPEC_CLASS = SequenceProfileSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(executor.Executor)

    def __init__(
        self,
        examples: channel.BaseChannel,
        *,
        length_edges: Sequence[int],
        density_edges: Sequence[int],
        max_length: int,
        source_hash: str | None = None,
    ) -> None:
        """Builds the component.

        Args:
            examples: channel of Examples.
            length_edges: lower bounds, in events, of the length buckets but the first.
            density_edges: the same of the density buckets, in training samples.
            max_length: maximum history length of the examples, in events.
            source_hash: hash of the code; a different one is a different cache entry.
        """
        super().__init__(
            spec=SequenceProfileSpec(
                examples=examples,
                length_edges=json.dumps(list(length_edges)),
                density_edges=json.dumps(list(density_edges)),
                max_length=max_length,
                source_hash=source_hash,
                profile=channel.Channel(type=artifacts.SequenceProfile),
            )
        )
