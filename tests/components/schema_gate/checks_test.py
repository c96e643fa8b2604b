from __future__ import annotations

import math

import pytest
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2, statistics_pb2

from components.schema_gate.checks import check_presence, check_splits, describe_anomalies

MAX_LENGTH = 100


def _statistics(
    examples: int = 10,
    *,
    labels: tuple[float, float] = (0, 1),
    label_nan: int = 0,
    label_missing: int = 0,
    longest: int = 100,
    totals: tuple[int, int] = (50, 50),
    max_length: int = 100,
) -> statistics_pb2.DatasetFeatureStatisticsList:
    result = statistics_pb2.DatasetFeatureStatisticsList()
    data = result.datasets.add(num_examples=examples)
    label = data.features.add(name="label")
    label.num_stats.min, label.num_stats.max = labels
    label.num_stats.common_stats.num_non_missing = examples - label_missing
    label.num_stats.histograms.add(num_nan=label_nan)
    for name, total in zip(("history_item_id", "history_tag"), totals, strict=True):
        common = data.features.add(name=name).string_stats.common_stats
        common.max_num_values, common.tot_num_values = longest, total
    data.features.add(name="history_length").num_stats.max = max_length
    data.features.add(name="history_length_total").num_stats.max = 5000
    return result


def _check(
    test: statistics_pb2.DatasetFeatureStatisticsList, allow_empty: tuple[str, ...] = ()
) -> list[str]:
    good = _statistics()
    splits = {"train": good, "validation": good, "test": test}
    return check_splits(splits, max_length=MAX_LENGTH, allow_empty=allow_empty)


def test_good_data_has_no_reasons_against_it() -> None:
    assert _check(_statistics()) == []


@pytest.mark.parametrize(
    ("statistics", "reason"),
    [
        (_statistics(0), "test: the split is empty"),
        (
            _statistics(labels=(1, 1)),
            "test, feature 'label': every value is 1; both classes are needed to train and to "
            "measure AUC",
        ),
        (_statistics(label_nan=3), "test, feature 'label': 3 values are NaN, 0 or 1 is accepted"),
        (
            _statistics(labels=(math.nan, 1)),
            "test, feature 'label': some values are NaN, 0 or 1 is accepted",
        ),
        (
            _statistics(label_missing=2),
            "test, feature 'label': 2 of 10 examples have no label",
        ),
        (
            _statistics(totals=(50, 49)),
            "test, history lists: they must have one value an event each, found "
            "history_item_id 50, history_tag 49",
        ),
        (
            _statistics(max_length=101),
            "test, feature 'history_length': the largest value is 101, at most 100 "
            "(data.history.max_length) is accepted",
        ),
    ],
)
def test_each_fault_is_named(
    statistics: statistics_pb2.DatasetFeatureStatisticsList, reason: str
) -> None:
    assert _check(statistics) == [reason]


def test_each_list_that_is_too_long_is_named() -> None:
    assert _check(_statistics(longest=101)) == [
        f"test, feature '{name}': the longest list has 101 values, at most 100 "
        "(data.history.max_length) are accepted"
        for name in ("history_item_id", "history_tag")
    ]


def test_a_label_of_text_is_refused() -> None:
    statistics = _statistics()
    statistics.datasets[0].features[0].string_stats.unique = 2

    assert _check(statistics) == [
        "test, feature 'label': 0 or 1 is accepted, found values that are no numbers"
    ]


def test_a_missing_label_and_a_missing_split_are_named() -> None:
    statistics = _statistics()
    del statistics.datasets[0].features[0]

    reasons = check_splits({"train": statistics}, max_length=MAX_LENGTH)

    assert reasons == [
        "train, feature 'label': no example has it",
        "validation: the split is missing",
        "test: the split is missing",
    ]


def test_a_split_may_be_allowed_to_be_empty() -> None:
    assert _check(_statistics(0), allow_empty=("test",)) == []


def test_anomalies_are_described_with_all_their_text() -> None:
    anomalies = anomalies_pb2.Anomalies()
    info = anomalies.anomaly_info["duration"]
    info.severity = anomalies_pb2.AnomalyInfo.ERROR
    info.reason.add(
        short_description="Out-of-range values", description="Unexpectedly low: -5 < 0."
    )
    info.reason.add(short_description="Column dropped", description="Absent in 12% of examples.")
    mild = anomalies.anomaly_info["country"]
    mild.severity = anomalies_pb2.AnomalyInfo.WARNING
    mild.short_description, mild.description = "New column", "Not in the schema."
    anomalies.dataset_anomaly_info.severity = anomalies_pb2.AnomalyInfo.ERROR
    anomalies.dataset_anomaly_info.short_description = "Low num examples"
    anomalies.dataset_anomaly_info.description = "3 < 10"

    errors, warnings = describe_anomalies("train", anomalies)

    assert errors == [
        "train, the whole split: Low num examples: 3 < 10",
        "train, feature 'duration': Out-of-range values: Unexpectedly low: -5 < 0.",
        "train, feature 'duration': Column dropped: Absent in 12% of examples.",
    ]
    assert warnings == ["train, feature 'country': New column: Not in the schema."]


def test_missing_data_is_an_error() -> None:
    errors, _ = describe_anomalies("test", anomalies_pb2.Anomalies(data_missing=True))

    assert errors == ["test: there is no data"]


@pytest.mark.parametrize(
    ("examples", "values", "refused"),
    [(6000, 0, 1), (6000, 4500, 1), (57, 40, 0), (57, 0, 1), (3, 0, 0)],
)
def test_a_number_that_fewer_examples_hold_than_the_schema_asks_is_named(
    examples: int, values: int, refused: int
) -> None:
    schema = schema_pb2.Schema()
    schema.feature.add(name="price").value_count.max = 1
    schema.feature[0].presence.min_fraction = 0.8
    found = statistics_pb2.DatasetFeatureStatisticsList()
    one = found.datasets.add(num_examples=examples).features.add(name="price")
    one.num_stats.common_stats.num_non_missing = examples
    one.num_stats.common_stats.tot_num_values = values
    assert len(check_presence({"train": found}, schema)) == refused
    # No example has so much as an empty list.
    found.datasets[0].ClearField("features")
    assert len(check_presence({"train": found}, schema)) == (examples > 3)
