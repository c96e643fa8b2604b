"""VersionedPusher: a new numbered version, atomically, only if blessed, only if new.

The stock Pusher copies into a folder named by the second, which a server may read half-written,
and pushes an unchanged model again at every run.
"""

from __future__ import annotations

from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import channel, standard_artifacts
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from components.pusher import executor


class VersionedPusherSpec(ComponentSpec):
    """Inputs, outputs and properties of VersionedPusher."""

    PARAMETERS = {
        "destination": ExecutionParameter(type=str),
        "run_id": ExecutionParameter(type=str),
    }
    INPUTS = {
        executor.MODEL_KEY: ChannelParameter(type=standard_artifacts.Model),
        executor.MODEL_BLESSING_KEY: ChannelParameter(
            type=standard_artifacts.ModelBlessing, optional=True
        ),
        executor.INFRA_BLESSING_KEY: ChannelParameter(
            type=standard_artifacts.InfraBlessing, optional=True
        ),
    }
    OUTPUTS = {executor.PUSHED_MODEL_KEY: ChannelParameter(type=standard_artifacts.PushedModel)}


class VersionedPusher(base_component.BaseComponent):
    """Pushes a model to a folder on a local or mounted file system.

    Inputs: ``model`` (Model), ``model_blessing`` (ModelBlessing) and ``infra_blessing``
    (InfraBlessing), the latter two optional; each that is wired must be given.
    Outputs: ``pushed_model`` (PushedModel), ``push.json`` with ``status`` (``pushed``,
    ``unchanged``, ``not_blessed``), ``reason``, ``version`` and ``path``.
    """

    SPEC_CLASS = VersionedPusherSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)

    def __init__(
        self,
        model: channel.BaseChannel,
        *,
        destination: str,
        run_id: str,
        model_blessing: channel.BaseChannel | None = None,
        infra_blessing: channel.BaseChannel | None = None,
    ) -> None:
        """Builds the component.

        Args:
            model: channel of the Trainer's Model.
            destination: folder of versions, which need not exist.
            run_id: differs from run to run. It keeps the component out of the cache: whether
                there is something to push depends on the destination, which no input shows.
            model_blessing: channel of the Evaluator's ModelBlessing.
            infra_blessing: channel of an InfraBlessing.

        Raises:
            ValueError: the destination is a URL; renaming is atomic on file systems only.
        """
        if "://" in destination:
            raise ValueError(
                f"destination {destination!r}: a folder on a local or mounted file system is "
                "accepted"
            )
        super().__init__(
            spec=VersionedPusherSpec(
                model=model,
                destination=destination,
                run_id=run_id,
                model_blessing=model_blessing,
                infra_blessing=infra_blessing,
                pushed_model=channel.Channel(type=standard_artifacts.PushedModel),
            )
        )
