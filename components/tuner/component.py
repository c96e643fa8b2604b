"""ProfiledTuner: the TFX Tuner with a SequenceProfile among its inputs."""

from __future__ import annotations

import json
from typing import Any

from tfx.dsl.components.base.base_component import BaseComponent
from tfx.dsl.components.base.executor_spec import ExecutorClassSpec
from tfx.proto import trainer_pb2
from tfx.types import channel_utils, standard_artifacts
from tfx.types.channel import BaseChannel
from tfx.types.component_spec import ChannelParameter
from tfx.types.standard_component_specs import TunerSpec

from components.artifacts import SequenceProfile
from components.profile_path import PROFILE_KEY
from components.tuner.executor import Executor


class ProfiledTunerSpec(TunerSpec):
    """The stock specification, and the profile."""

    INPUTS = {**TunerSpec.INPUTS, PROFILE_KEY: ChannelParameter(type=SequenceProfile)}


class ProfiledTuner(BaseComponent):
    """Searches with a ``tuner_fn`` that finds the profile's path in its ``custom_config``.

    Inputs:
        examples: transformed Examples.
        transform_graph: TransformGraph.
        profile: SequenceProfile.

    Outputs:
        best_hyperparameters: ``standard_artifacts.HyperParameters``.
        tuner_results: ``standard_artifacts.TunerResults``.
    """

    SPEC_CLASS = ProfiledTunerSpec
    EXECUTOR_SPEC = ExecutorClassSpec(Executor)

    def __init__(
        self,
        *,
        examples: BaseChannel,
        transform_graph: BaseChannel,
        profile: BaseChannel,
        tuner_fn: str,
        train_split: str,
        eval_split: str,
        custom_config: dict[str, Any],
    ):
        """Makes the component.

        Args:
            examples: channel of transformed examples.
            transform_graph: channel of the graph that transformed them.
            profile: channel of the SequenceProfile.
            tuner_fn: ``package.module.function``.
            train_split: split to train on.
            eval_split: split to score trials on.
            custom_config: handed to ``tuner_fn``, beside the path of the profile.
        """
        spec = ProfiledTunerSpec(
            examples=examples,
            transform_graph=transform_graph,
            profile=profile,
            train_args=trainer_pb2.TrainArgs(splits=[train_split]),
            eval_args=trainer_pb2.EvalArgs(splits=[eval_split]),
            tuner_fn=tuner_fn,
            custom_config=json.dumps(custom_config),
            best_hyperparameters=channel_utils.as_channel([standard_artifacts.HyperParameters()]),
            tuner_results=channel_utils.as_channel([standard_artifacts.TunerResults()]),
        )
        super().__init__(spec=spec)
