"""Proposes a schema for examples: what TFDV infers, tightened by the feature contract.

The result is meant to be read and edited by someone who knows the data. It does not depend on
the bucket edges or the maximum length of a run: SchemaGate checks those.
"""

from __future__ import annotations

import math
import os
import tempfile
from pathlib import Path

import tensorflow_data_validation as tfdv
from apache_beam.options.pipeline_options import PipelineOptions
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

from schemas import features
from schemas.loading import ConfigError

# Beam's default runner would first try to download another one.
_RUNNER = "apache_beam.runners.portability.fn_api_runner.FnApiRunner"
# A category with more values than this is an identifier: new values are nothing unusual.
MAX_DOMAIN = 100
# Share of the values that must be in the domain of a category.
MIN_DOMAIN_MASS = 0.95
# How much the share of examples with a value may fall below what was seen.
PRESENCE_SLACK = 0.1

_EXACTLY_ONE = frozenset(
    {
        features.LABEL,
        features.USER_ID,
        features.ITEM_ID,
        features.TIMESTAMP,
        features.HISTORY_LENGTH,
        features.HISTORY_LENGTH_TOTAL,
        features.ITEM_TRAIN_COUNT,
        features.LENGTH_BUCKET,
        features.DENSITY_BUCKET,
    }
)
_COUNTS = frozenset(
    {
        features.TIMESTAMP,
        features.HISTORY_LENGTH,
        features.HISTORY_LENGTH_TOTAL,
        features.ITEM_TRAIN_COUNT,
    }
)
# Their values are identifiers, or named by the edges of a run.
_FREE = frozenset(
    {
        features.USER_ID,
        features.ITEM_ID,
        features.HISTORY_ITEM_ID,
        features.LENGTH_BUCKET,
        features.DENSITY_BUCKET,
    }
)


def propose_schema(source: Path | str) -> str:
    """Proposes a schema.

    Args:
        source: folder of an Examples or ExampleStatistics artifact, with ``Split-train``.

    Returns:
        A ``tensorflow.metadata.v0.Schema`` as text.

    Raises:
        ConfigError: the folder holds neither examples nor statistics of a train split.
    """
    statistics = read_statistics(Path(source))
    return text_format.MessageToString(tighten(tfdv.infer_schema(statistics), statistics))


def read_statistics(source: Path) -> statistics_pb2.DatasetFeatureStatisticsList:
    """Reads the statistics of the train split in ``source``, or computes them from examples."""
    folder = source / f"Split-{features.TRAIN_SPLIT}"
    for name in ("FeatureStats.pb", "stats_tfrecord"):
        if (folder / name).is_file():
            if name == "FeatureStats.pb":
                return tfdv.load_stats_binary(str(folder / name))
            return tfdv.load_statistics(str(folder / name))
    if not any(path.is_file() for path in folder.glob("*")):
        raise ConfigError(
            f"{source}: neither examples nor statistics found; a folder with "
            f"Split-{features.TRAIN_SPLIT} of an Examples or ExampleStatistics artifact is expected"
        )
    # Left to itself, TFDV makes a folder for them and leaves it.
    with tempfile.TemporaryDirectory() as scratch:
        return tfdv.generate_statistics_from_tfrecord(
            str(folder / "*"),
            output_path=os.path.join(scratch, "statistics"),
            pipeline_options=PipelineOptions([f"--runner={_RUNNER}"]),
        )


def tighten(
    inferred: schema_pb2.Schema, statistics: statistics_pb2.DatasetFeatureStatisticsList
) -> schema_pb2.Schema:
    """Applies the feature contract to an inferred schema.

    Args:
        inferred: schema of ``tfdv.infer_schema``.
        statistics: what it was inferred from.

    Returns:
        A schema in which the label is 0 or 1, each feature has the number of values that the
        contract gives it, identifiers have no domain, and small categories may gain some values.
    """
    data = statistics.datasets[0]
    seen = {one.name or ".".join(one.path.step): one for one in data.features}
    schema = schema_pb2.Schema()
    domains = {domain.name: domain for domain in inferred.string_domain}
    for found in sorted(inferred.feature, key=lambda feature: _place(feature.name)):
        feature = schema.feature.add(name=found.name, type=found.type)
        if found.name not in seen:
            raise ValueError(f"feature {found.name!r} of the schema is not in the statistics")
        common = _common(seen[found.name])
        # An empty list counts as present, so the values say how many examples hold one.
        values = min(int(common.num_non_missing), int(common.tot_num_values))
        _set_values(feature, values, int(data.num_examples))
        _set_domain(feature, seen[found.name], domains.get(found.domain or found.name))
    return schema


def _set_values(feature: schema_pb2.Feature, values: int, examples: int) -> None:
    if _is_history_list(feature.name):
        feature.value_count.min = 0
        feature.presence.min_fraction = 0.0
    elif feature.name in _EXACTLY_ONE or feature.type != schema_pb2.FLOAT:
        # A missing category is a value of its own, so every example holds one.
        feature.shape.dim.add(size=1)
        feature.presence.min_fraction = 1.0
        feature.presence.min_count = 1
    else:
        share = values / examples if examples else 0.0
        feature.value_count.min = 0
        feature.value_count.max = 1
        feature.presence.min_fraction = max(0.0, math.floor((share - PRESENCE_SLACK) * 20) / 20)


def _set_domain(
    feature: schema_pb2.Feature,
    seen: statistics_pb2.FeatureNameStatistics,
    domain: schema_pb2.StringDomain | None,
) -> None:
    if feature.name == features.LABEL:
        feature.int_domain.min, feature.int_domain.max = 0, 1
    elif feature.name in _COUNTS:
        feature.int_domain.min = 0
    elif feature.name == features.HISTORY_ACTION:
        feature.int_domain.min = 1
    elif feature.name in _FREE:
        return
    elif feature.type == schema_pb2.FLOAT:
        feature.float_domain.disallow_nan = True
        feature.float_domain.disallow_inf = True
    elif feature.type == schema_pb2.INT:
        if seen.num_stats.min >= features.MISSING_INT:
            feature.int_domain.min = features.MISSING_INT
    elif domain is not None and len(domain.value) <= MAX_DOMAIN:
        feature.string_domain.CopyFrom(domain)
        feature.string_domain.name = feature.name
        if features.MISSING_STRING not in domain.value:
            feature.string_domain.value.append(features.MISSING_STRING)
        feature.distribution_constraints.min_domain_mass = MIN_DOMAIN_MASS


def _is_history_list(name: str) -> bool:
    return name.startswith(features.HISTORY_PREFIX) and name not in _EXACTLY_ONE


def _place(name: str) -> tuple[int, str]:
    """Orders a schema as the contract does: its own features, side fields, history."""
    return (0 if name in _EXACTLY_ONE else 2 if _is_history_list(name) else 1), name


def _common(one: statistics_pb2.FeatureNameStatistics) -> statistics_pb2.CommonStatistics:
    kind = one.WhichOneof("stats")
    return getattr(one, kind).common_stats if kind else statistics_pb2.CommonStatistics()
