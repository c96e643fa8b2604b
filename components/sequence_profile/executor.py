"""Executor of SequenceProfile: reads the training split once, in columns."""

from __future__ import annotations

import itertools
import json
import logging
import os
import uuid
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
import numpy as np
import pandas as pd
import pyarrow as pa
import tensorflow as tf
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx.components.util import examples_utils
from tfx.dsl.components.base import base_beam_executor
from tfx.dsl.io import fileio
from tfx.types import artifact_utils
from tfx.types.artifact import Artifact
from tfx_bsl.coders import example_coder

from components.columns import single_values
from components.sequence_profile.profile import ProfileCounts, make_profile
from schemas import features
from schemas.profile import PROFILE_FILE

EXAMPLES_KEY = "examples"
PROFILE_KEY = "profile"
BATCH = 4096
READ_BUFFER_BYTES = 1 << 20

_LOG = logging.getLogger(__name__)
_NUMBERS = (
    features.LABEL,
    features.HISTORY_LENGTH,
    features.HISTORY_LENGTH_TOTAL,
    features.ITEM_TRAIN_COUNT,
)


class Executor(base_beam_executor.BaseBeamExecutor):
    """Writes ``schemas.profile.PROFILE_FILE`` into the output artifact."""

    def Do(
        self,
        input_dict: dict[str, list[Artifact]],
        output_dict: dict[str, list[Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Profiles the training split.

        Args:
            input_dict: ``examples``, an Examples artifact with a train split.
            output_dict: ``profile``, a SequenceProfile artifact.
            exec_properties: ``length_edges`` and ``density_edges`` as JSON lists, ``max_length``.

        Raises:
            ValueError: the train split is missing or empty, or lacks a feature.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        examples = artifact_utils.get_single_instance(input_dict[EXAMPLES_KEY])
        output = artifact_utils.get_single_instance(output_dict[PROFILE_KEY])
        splits = artifact_utils.decode_split_names(examples.split_names)
        if features.TRAIN_SPLIT not in splits:
            raise ValueError(f"examples: no split {features.TRAIN_SPLIT!r} among {splits}")
        output.span = examples.span
        pattern = examples_utils.get_split_file_patterns([examples], features.TRAIN_SPLIT)[0]
        files = sorted(fileio.glob(pattern))
        with self._make_beam_pipeline() as pipeline:
            _ = (
                pipeline
                | "Files" >> beam.Create(files)
                | "Spread" >> beam.Reshuffle()
                | "Count" >> beam.FlatMap(count_file, schema=_schema_of(files))
                | "Merge" >> beam.CombineGlobally(ProfileCombineFn())
                | "Write"
                >> beam.Map(
                    write_profile,
                    folder=output.uri,
                    length_edges=json.loads(exec_properties["length_edges"]),
                    density_edges=json.loads(exec_properties["density_edges"]),
                    max_length=exec_properties["max_length"],
                )
            )


class ProfileCombineFn(beam.CombineFn):
    """Merges the counts of batches.

    Counts are merged with others of like size only. Merging each batch into all before it would
    read the counts of all items again at every batch: hours, where there are millions of items.
    """

    def create_accumulator(self) -> list[ProfileCounts]:
        return []

    def add_input(
        self, accumulator: list[ProfileCounts], element: ProfileCounts
    ) -> list[ProfileCounts]:
        accumulator.append(element)
        while len(accumulator) > 1 and accumulator[-2].size <= 2 * accumulator[-1].size:
            last = accumulator.pop()
            accumulator[-1] = accumulator[-1].merge(last)
        return accumulator

    def merge_accumulators(
        self, accumulators: Iterable[list[ProfileCounts]]
    ) -> list[ProfileCounts]:
        return [self.extract_output(list(itertools.chain.from_iterable(accumulators)))]

    def extract_output(self, accumulator: list[ProfileCounts]) -> ProfileCounts:
        return ProfileCounts().merge(*accumulator)


def count_file(file: str, *, schema: schema_pb2.Schema) -> Iterator[ProfileCounts]:
    """Counts the examples of a file, a batch at a time.

    TensorFlow reads the records: Beam's own source takes Python for each of them.
    """
    decoder = example_coder.ExamplesToRecordBatchDecoder(schema.SerializeToString())
    for batch in _records(file).batch(BATCH):
        yield count_batch(decoder.DecodeBatch(batch.numpy()))


def count_batch(records: pa.RecordBatch) -> ProfileCounts:
    """Counts one batch of training examples."""
    items = single_values(records, features.ITEM_ID)
    return ProfileCounts.of(
        lengths=single_values(records, features.HISTORY_LENGTH),
        total_lengths=single_values(records, features.HISTORY_LENGTH_TOTAL),
        densities=single_values(records, features.ITEM_TRAIN_COUNT),
        items=pd.util.hash_array(np.asarray(items), categorize=False),
        labels=single_values(records, features.LABEL),
    )


def write_profile(counts: ProfileCounts, *, folder: str, **properties: Any) -> None:
    """Writes the profile of ``counts`` into ``folder``, under a temporary name first."""
    profile = make_profile(counts, **properties)
    path = os.path.join(folder, PROFILE_FILE)
    temporary = f"{path}.{uuid.uuid4().hex}"
    fileio.makedirs(folder)
    with fileio.open(temporary, "w") as file:
        file.write(profile.to_json())
    fileio.rename(temporary, path, overwrite=True)
    _LOG.info(
        "profile of %d training examples: mean length %.1f, %.1f samples per item",
        profile.examples,
        profile.length_mean,
        profile.samples_per_item,
    )


def _schema_of(files: list[str]) -> schema_pb2.Schema:
    """Describes only the features that are read, so that no history list is decoded."""
    kind = schema_pb2.INT
    for file in files:
        for record in _records(file).take(1):
            item = tf.train.Example.FromString(record.numpy()).features.feature[features.ITEM_ID]
            if item.WhichOneof("kind") == "bytes_list":
                kind = schema_pb2.BYTES
    return schema_pb2.Schema(
        feature=[
            *(schema_pb2.Feature(name=name, type=schema_pb2.INT) for name in _NUMBERS),
            schema_pb2.Feature(name=features.ITEM_ID, type=kind),
        ]
    )


def _records(file: str) -> tf.data.Dataset:
    compression = "GZIP" if file.endswith(".gz") else ""
    return tf.data.TFRecordDataset(file, compression, buffer_size=READ_BUFFER_BYTES)
