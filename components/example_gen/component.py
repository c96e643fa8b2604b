"""HistoryExampleGen: the examples job of ``beam_jobs`` as a TFX component."""

from __future__ import annotations

from tfx.dsl.components.base.base_beam_component import BaseBeamComponent
from tfx.dsl.components.base.executor_spec import BeamExecutorSpec
from tfx.types import channel_utils, standard_artifacts
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from components.example_gen.executor import Executor
from schemas import features


class HistoryExampleGenSpec(ComponentSpec):
    """Specification of :class:`HistoryExampleGen`."""

    PARAMETERS = {
        "data": ExecutionParameter(type=str),
        "description": ExecutionParameter(type=str),
        "snapshot": ExecutionParameter(type=str),
        "snapshot_fingerprint": ExecutionParameter(type=str),
        "snapshot_root": ExecutionParameter(type=str),
        "failed_dead_letter": ExecutionParameter(type=str),
        "fingerprint": ExecutionParameter(type=str),
        "source_hash": ExecutionParameter(type=str),
    }
    INPUTS: dict[str, ChannelParameter] = {}
    OUTPUTS = {"examples": ChannelParameter(type=standard_artifacts.Examples)}


class HistoryExampleGen(BaseBeamComponent):
    """Builds the examples of a run, and the history snapshot for the next one.

    Outputs:
        examples: ``standard_artifacts.Examples`` with the splits train, validation and test;
            beside them ``report.json`` (counters) and ``dead_letter.jsonl``.
    """

    SPEC_CLASS = HistoryExampleGenSpec
    EXECUTOR_SPEC = BeamExecutorSpec(Executor)

    def __init__(
        self,
        *,
        data: str,
        description: str,
        snapshot: str,
        snapshot_fingerprint: str,
        snapshot_root: str,
        failed_dead_letter: str,
        fingerprint: str,
        source_hash: str,
    ):
        """Makes the component.

        Args:
            data: the ``data`` section of the run, as JSON.
            description: the dataset description, as JSON.
            snapshot: folder of the snapshot to start from, or an empty text.
            snapshot_fingerprint: identifies its bytes, so that the cache notices edits.
            snapshot_root: folder that the new snapshot is put into.
            failed_dead_letter: where the dead letter of a failed run is left.
            fingerprint: identifies the bytes of the raw data, so that the cache notices edits.
            source_hash: identifies the code of the job, for the same reason.
        """
        examples = channel_utils.as_channel([standard_artifacts.Examples()])
        examples.additional_properties["split_names"] = str(list(features.SPLITS))
        super().__init__(
            spec=HistoryExampleGenSpec(
                data=data,
                description=description,
                snapshot=snapshot,
                snapshot_fingerprint=snapshot_fingerprint,
                snapshot_root=snapshot_root,
                failed_dead_letter=failed_dead_letter,
                fingerprint=fingerprint,
                source_hash=source_hash,
                examples=examples,
            )
        )
