"""ProfiledTrainer: the TFX Trainer with a SequenceProfile among its inputs."""

from __future__ import annotations

import json
from typing import Any

from tfx.dsl.components.base.base_component import BaseComponent
from tfx.dsl.components.base.executor_spec import ExecutorClassSpec
from tfx.proto import trainer_pb2
from tfx.types import channel_utils, standard_artifacts
from tfx.types.channel import BaseChannel
from tfx.types.component_spec import ChannelParameter
from tfx.types.standard_component_specs import TrainerSpec

from components.artifacts import SequenceProfile
from components.profile_path import PROFILE_KEY
from components.trainer.executor import Executor


class ProfiledTrainerSpec(TrainerSpec):
    """The stock specification, and the profile."""

    INPUTS = {**TrainerSpec.INPUTS, PROFILE_KEY: ChannelParameter(type=SequenceProfile)}


class ProfiledTrainer(BaseComponent):
    """Trains with a ``run_fn`` that finds the profile's path in its ``custom_config``.

    Inputs:
        examples: transformed Examples.
        transform_graph: TransformGraph.
        profile: SequenceProfile.

    Outputs:
        model: ``standard_artifacts.Model``.
        model_run: ``standard_artifacts.ModelRun``.
    """

    SPEC_CLASS = ProfiledTrainerSpec
    EXECUTOR_SPEC = ExecutorClassSpec(Executor)

    def __init__(
        self,
        *,
        examples: BaseChannel,
        transform_graph: BaseChannel,
        profile: BaseChannel,
        run_fn: str,
        train_split: str,
        eval_split: str,
        custom_config: dict[str, Any],
    ):
        """Makes the component.

        Args:
            examples: channel of transformed examples.
            transform_graph: channel of the graph that transformed them.
            profile: channel of the SequenceProfile.
            run_fn: ``package.module.function``.
            train_split: split to train on.
            eval_split: split to choose the best epoch by.
            custom_config: handed to ``run_fn``, beside the path of the profile.
        """
        spec = ProfiledTrainerSpec(
            examples=examples,
            transform_graph=transform_graph,
            profile=profile,
            train_args=trainer_pb2.TrainArgs(splits=[train_split]),
            eval_args=trainer_pb2.EvalArgs(splits=[eval_split]),
            run_fn=run_fn,
            custom_config=json.dumps(custom_config),
            model=channel_utils.as_channel([standard_artifacts.Model()]),
            model_run=channel_utils.as_channel([standard_artifacts.ModelRun()]),
        )
        super().__init__(spec=spec)
