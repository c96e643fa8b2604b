"""OrderedTransform: the TFX Transform with an order of its examples that follows from its input."""

from __future__ import annotations

from tfx.components.transform.component import Transform
from tfx.dsl.components.base.executor_spec import BeamExecutorSpec

from components.transform.executor import Executor


class OrderedTransform(Transform):
    """Analyses like the stock component, and writes a file for each file of raw examples.

    The stock component leaves the order of records, and how they are spread over files, to Beam.
    A trainer that shuffles by seed then repeats a run only on the very same files.

    Inputs:
        examples: Examples of TFRecords, one artifact.
        schema: Schema.

    Outputs:
        transform_graph: TransformGraph.
        transformed_examples: Examples of the splits that ``splits_config`` transforms; each file
            has the name, the number of records and the order of the raw one; with
            ``data.pack_impressions`` consecutive impressions of a user are one record.
    """

    EXECUTOR_SPEC = BeamExecutorSpec(Executor)
