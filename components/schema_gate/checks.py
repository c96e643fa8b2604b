"""What a run's data must be beyond its schema, and how anomalies read."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2, statistics_pb2

from schemas import features

# history_length and history_length_total are numbers, not lists.
_NOT_LISTS = frozenset({features.HISTORY_LENGTH, features.HISTORY_LENGTH_TOTAL})


def describe_anomalies(split: str, anomalies: anomalies_pb2.Anomalies) -> tuple[list[str], ...]:
    """Describes the anomalies that ExampleValidator found in a split.

    Returns:
        Sentences on errors, and sentences on anomalies that are warnings only.
    """
    errors: list[str] = []
    warnings: list[str] = []
    if anomalies.data_missing:
        errors.append(f"{split}: there is no data")
    found = sorted(anomalies.anomaly_info.items())
    if anomalies.HasField("dataset_anomaly_info"):
        found.insert(0, ("", anomalies.dataset_anomaly_info))
    for name, info in found:
        where = f"{split}, feature {name!r}" if name else f"{split}, the whole split"
        reasons = [
            f"{reason.short_description}: {reason.description}" for reason in info.reason
        ] or [f"{info.short_description}: {info.description}"]
        severe = info.severity != anomalies_pb2.AnomalyInfo.WARNING
        (errors if severe else warnings).extend(f"{where}: {reason}" for reason in reasons)
    return errors, warnings


def check_splits(
    statistics: Mapping[str, statistics_pb2.DatasetFeatureStatisticsList],
    *,
    max_length: int,
    allow_empty: Sequence[str] = (),
) -> list[str]:
    """Checks the statistics of all splits.

    Args:
        statistics: statistics by split.
        max_length: maximum history length, in events.
        allow_empty: splits that may be empty.

    Returns:
        A sentence for each reason to refuse the data; empty if there is none.
    """
    reasons: list[str] = []
    for split in features.SPLITS:
        if split not in statistics:
            if split not in allow_empty:
                reasons.append(f"{split}: the split is missing")
            continue
        examples = sum(int(data.num_examples) for data in statistics[split].datasets)
        if not examples:
            if split not in allow_empty:
                reasons.append(f"{split}: the split is empty")
            continue
        for data in statistics[split].datasets:
            reasons.extend(f"{split}, {reason}" for reason in _check(data, max_length))
    return reasons


def check_presence(
    statistics: Mapping[str, statistics_pb2.DatasetFeatureStatisticsList],
    schema: schema_pb2.Schema,
) -> list[str]:
    """Checks how many examples hold each number, against ``presence.min_fraction``.

    An example without a number has an empty list of it, which TFDV counts as present: a column of
    the log that has gone empty would pass.

    Returns:
        A sentence for each number that too few examples hold.
    """
    reasons = []
    expected = {
        feature.name: feature.presence.min_fraction
        for feature in schema.feature
        if feature.value_count.max == 1 and feature.presence.min_fraction > 0
    }
    for split, found in statistics.items():
        for data in found.datasets:
            by_name = {one.name or ".".join(one.path.step): one for one in data.features}
            examples = int(data.num_examples)
            for name, share in expected.items():
                values = int(_common(by_name[name]).tot_num_values) if name in by_name else 0
                # Four deviations: a small split may have fewer by chance.
                if values < examples * share - 4 * math.sqrt(examples * share * (1 - share)):
                    reasons.append(
                        f"{split}, feature {name!r}: {values} of {examples} examples hold a value, "
                        f"a share of {share:g} (presence.min_fraction) is expected"
                    )
    return reasons


def _check(data: statistics_pb2.DatasetFeatureStatistics, max_length: int) -> list[str]:
    by_name = {one.name or ".".join(one.path.step): one for one in data.features}
    reasons = _check_label(by_name.get(features.LABEL), int(data.num_examples))
    lists = {
        name: _common(one)
        for name, one in by_name.items()
        if name.startswith(features.HISTORY_PREFIX) and name not in _NOT_LISTS
    }
    for name, common in sorted(lists.items()):
        if common.max_num_values > max_length:
            reasons.append(
                f"feature {name!r}: the longest list has {common.max_num_values} values, "
                f"at most {max_length} (data.history.max_length) are accepted"
            )
    totals = {name: int(common.tot_num_values) for name, common in lists.items()}
    if len(set(totals.values())) > 1:
        counted = ", ".join(f"{name} {total}" for name, total in sorted(totals.items()))
        reasons.append(f"history lists: they must have one value an event each, found {counted}")
    length = by_name.get(features.HISTORY_LENGTH)
    if length is not None and length.num_stats.max > max_length:
        reasons.append(
            f"feature {features.HISTORY_LENGTH!r}: the largest value is "
            f"{length.num_stats.max:.0f}, at most {max_length} (data.history.max_length) is "
            "accepted"
        )
    return reasons


def _check_label(label: statistics_pb2.FeatureNameStatistics | None, examples: int) -> list[str]:
    where = f"feature {features.LABEL!r}"
    if label is None:
        return [f"{where}: no example has it"]
    if label.WhichOneof("stats") != "num_stats":
        return [f"{where}: 0 or 1 is accepted, found values that are no numbers"]
    numbers = label.num_stats
    reasons = []
    missing = examples - int(numbers.common_stats.num_non_missing)
    if missing:
        reasons.append(f"{where}: {missing} of {examples} examples have no label")
    undefined = max((int(one.num_nan) for one in numbers.histograms), default=0)
    if undefined or math.isnan(numbers.min) or math.isnan(numbers.max):
        reasons.append(f"{where}: {undefined or 'some'} values are NaN, 0 or 1 is accepted")
    elif numbers.min == numbers.max and numbers.common_stats.num_non_missing:
        reasons.append(
            f"{where}: every value is {numbers.min:g}; both classes are needed to train and to "
            "measure AUC"
        )
    return reasons


def _common(one: statistics_pb2.FeatureNameStatistics) -> statistics_pb2.CommonStatistics:
    kind = one.WhichOneof("stats")
    return getattr(one, kind).common_stats if kind else statistics_pb2.CommonStatistics()
