"""Configuration of evaluation and push, free of TFX and TensorFlow."""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from schemas.loading import STRICT


class MetricName(enum.StrEnum):
    """Metrics that every slice of the evaluation reports.

    ``auc`` and ``gauc`` (AUC within a user, weighted by impressions) rise as a model gets
    better and ``log_loss`` falls. ``calibration`` is the mean prediction divided by the mean
    label, best at 1. ``example_count`` and ``label_mean`` describe the slice itself.
    """

    AUC = "auc"
    GAUC = "gauc"
    LOG_LOSS = "log_loss"
    CALIBRATION = "calibration"
    EXAMPLE_COUNT = "example_count"
    LABEL_MEAN = "label_mean"


HIGHER_IS_BETTER = frozenset({MetricName.AUC, MetricName.GAUC})
LOWER_IS_BETTER = frozenset({MetricName.LOG_LOSS})
# The others have no largest value; the smallest of all is 0.
_AT_MOST_1 = frozenset({MetricName.AUC, MetricName.GAUC, MetricName.LABEL_MEAN})


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """Accepted values of a metric, both ends included.

    Attributes:
        min: smallest accepted value; none if not given.
        max: largest accepted value; none if not given.
    """

    __pydantic_config__ = STRICT

    min: float | None = None
    max: float | None = None

    def __post_init__(self) -> None:
        if self.min is None and self.max is None:
            raise ValueError("give min, max or both")
        if any(bound is not None and math.isnan(bound) for bound in (self.min, self.max)):
            raise ValueError(f"min {self.min}, max {self.max}: a number is accepted, found NaN")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}")


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """The ``evaluation`` section of a run: what a model must reach on the test split.

    A model that misses one of these is not blessed and so not pushed.

    Attributes:
        thresholds: bounds of metrics over the whole split.
        slice_thresholds: bounds of metrics in every ``length_bucket`` slice and every
            ``density_bucket`` slice. Slices by both are reported and never refuse a model.
        min_slice_size: examples below which a slice is reported and never refuses a model.
        max_worsening: how much worse, in units of the metric, than the last blessed model a
            model may be over the whole split. Not checked when there is no blessed model.
        slice_max_worsening: the same in every slice that ``slice_thresholds`` looks at.
    """

    __pydantic_config__ = STRICT

    thresholds: Mapping[MetricName, Bounds] = field(
        default_factory=lambda: {MetricName.AUC: Bounds(min=0.55)}
    )
    slice_thresholds: Mapping[MetricName, Bounds] = field(
        default_factory=lambda: {MetricName.AUC: Bounds(min=0.5)}
    )
    min_slice_size: int = 1_000
    max_worsening: Mapping[MetricName, float] = field(
        default_factory=lambda: {MetricName.AUC: 0.005}
    )
    slice_max_worsening: Mapping[MetricName, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.min_slice_size < 1:
            raise ValueError(f"min_slice_size {self.min_slice_size}: at least 1 is accepted")
        for name in ("thresholds", "slice_thresholds"):
            for metric, bounds in getattr(self, name).items():
                largest = 1.0 if metric in _AT_MOST_1 else math.inf
                if (bounds.min or 0.0) > largest or (bounds.max or 0.0) < 0:
                    raise ValueError(
                        f"{name}.{metric.value}: 0 to {largest:g} can be reached, found "
                        f"min {bounds.min}, max {bounds.max}"
                    )
        directed = HIGHER_IS_BETTER | LOWER_IS_BETTER
        for name in ("max_worsening", "slice_max_worsening"):
            for metric, amount in getattr(self, name).items():
                if metric not in directed:
                    raise ValueError(
                        f"{name}.{metric.value}: only metrics with a better end are accepted: "
                        f"{', '.join(sorted(one.value for one in directed))}"
                    )
                if not amount >= 0:
                    raise ValueError(f"{name}.{metric.value} {amount}: at least 0 is accepted")
                if metric in _AT_MOST_1 and amount >= 1:
                    raise ValueError(
                        f"{name}.{metric.value} {amount}: below 1 is accepted, as in the metric "
                        "itself and not in percent; leave it out to compare nothing"
                    )


@dataclass(frozen=True, kw_only=True)
class PushConfig:
    """The ``push`` section of a run.

    Attributes:
        destination: folder that the model server reads, one numbered folder a version;
            ``<run.root>/serving`` if not given.
    """

    __pydantic_config__ = STRICT

    destination: str | None = None

    def __post_init__(self) -> None:
        if self.destination is not None and not self.destination.strip():
            raise ValueError("destination: a folder is expected, found an empty text")
        if self.destination is not None and "://" in self.destination:
            raise ValueError(
                f"destination {self.destination!r}: a folder on a local or mounted file system "
                "is accepted"
            )
