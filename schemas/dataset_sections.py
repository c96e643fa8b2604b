"""The sections of a dataset description, each a table of ``docs/datasets.md``."""

from __future__ import annotations

import enum
import re
import zoneinfo
from dataclasses import dataclass

from schemas import features
from schemas.loading import STRICT


class FieldType(enum.StrEnum):
    """Type of a column's values: two kinds of category and a number."""

    INT = "int"
    STRING = "string"
    FLOAT = "float"


class FileFormat(enum.StrEnum):
    """Format of the raw files."""

    CSV = "csv"
    PARQUET = "parquet"
    JSONL = "jsonl"


class TimeUnit(enum.StrEnum):
    """Unit of an integer time column; times are kept in milliseconds."""

    SECONDS = "s"
    MILLISECONDS = "ms"
    MICROSECONDS = "us"


class Scale(enum.StrEnum):
    """What is applied to a number before it is normalised."""

    LINEAR = "linear"
    LOG1P = "log1p"


class Derived(enum.StrEnum):
    """Context fields computed from the time of the impression, in the log's time zone."""

    HOUR_OF_DAY = "hour_of_day"
    DAY_OF_WEEK = "day_of_week"


class Per(enum.StrEnum):
    """What a context field has one value for, when several candidates are ranked at once."""

    REQUEST = "request"
    CANDIDATE = "candidate"


@dataclass(frozen=True, kw_only=True)
class Column:
    """The column of an identifier.

    Attributes:
        column: its name in the log.
        type: int or string.
    """

    __pydantic_config__ = STRICT

    column: str
    type: FieldType = FieldType.INT

    def __post_init__(self) -> None:
        if self.type is FieldType.FLOAT:
            raise ValueError(f"column {self.column!r}: an identifier is int or string, not float")


@dataclass(frozen=True, kw_only=True)
class TimeColumn:
    """The column of the time of an impression.

    Attributes:
        column: its name in the log.
        unit: unit of its integers since 1970-01-01 UTC.
        years: first and last year (inclusive, UTC) that a row may lie in; a row outside is
            rejected, since it is most often in another unit.
    """

    __pydantic_config__ = STRICT

    column: str
    unit: TimeUnit = TimeUnit.MILLISECONDS
    years: tuple[int, int]

    def __post_init__(self) -> None:
        first, last = self.years
        if not 1971 <= first <= last <= 2200:
            raise ValueError(f"years {list(self.years)}: expected 1971 <= first <= last <= 2200")


@dataclass(frozen=True, kw_only=True)
class Label:
    """Where the label comes from: a column of 0 and 1, or a constant.

    Attributes:
        column: name of the column; its values are 0, 1, true or false.
        constant: 1 for a log of positives only.
    """

    __pydantic_config__ = STRICT

    column: str | None = None
    constant: int | None = None

    def __post_init__(self) -> None:
        if (self.column is None) == (self.constant is None):
            raise ValueError("give either column or constant")
        if self.constant not in (None, 1):
            raise ValueError(f"constant {self.constant}: only 1 (positives) makes sense")


@dataclass(frozen=True, kw_only=True)
class Action:
    """One action type of an event in a history.

    Attributes:
        name: its name.
        when: columns of flags (0 or 1); the type holds when any of them is set. Empty: holds
            for whatever no stronger type holds for.
        positive: whether the ``positive_only`` history protocol keeps it.
        prior_only: whether it occurs in ``prior_history`` alone.
    """

    __pydantic_config__ = STRICT

    name: str
    when: tuple[str, ...] = ()
    positive: bool = False
    prior_only: bool = False


@dataclass(frozen=True, kw_only=True)
class Field:
    """One field of the impression, the user or the item.

    Attributes:
        name: the feature's name.
        column: its column; the name if not given.
        type: int or string for a category, float for a number.
        missing: values that stand for a missing one, beside empty and null.
        scale: for a number, what is applied before it is normalised.
        derive: computes a context field from the time instead of reading a column.
        per: for a context field, whether the candidates of a request share its value, as they
            share the time, or each has its own, as it has its length.
    """

    __pydantic_config__ = STRICT

    name: str
    column: str | None = None
    type: FieldType = FieldType.STRING
    missing: tuple[str | int | float, ...] = ()
    scale: Scale = Scale.LINEAR
    derive: Derived | None = None
    per: Per = Per.REQUEST

    def __post_init__(self) -> None:
        if self.name in features.RESERVED or self.name.startswith(features.HISTORY_PREFIX):
            raise ValueError(f"field name {self.name!r} is taken by the feature contract")
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", self.name):
            raise ValueError(f"field name {self.name!r}: letters, digits and _ are accepted")
        if self.derive is not None and self.column is not None:
            raise ValueError(f"field {self.name!r}: give either column or derive")
        if self.derive is not None and self.type is not FieldType.INT:
            raise ValueError(f"field {self.name!r}: a derived field is of type int")
        if self.derive is not None and self.per is Per.CANDIDATE:
            raise ValueError(f"field {self.name!r}: what is derived from the time is per request")

    @property
    def source(self) -> str:
        """The column that the field is read from."""
        return self.column or self.name


@dataclass(frozen=True, kw_only=True)
class SideTable:
    """A side file with one row a user or an item.

    Attributes:
        files: patterns under the data folder.
        format: format of the files.
        key: column that holds the user or item.
        fields: fields to join.
    """

    __pydantic_config__ = STRICT

    files: tuple[str, ...]
    format: FileFormat = FileFormat.CSV
    key: str
    fields: tuple[Field, ...]


@dataclass(frozen=True, kw_only=True)
class PriorSequence:
    """One list column of a prior history.

    Attributes:
        column: list of items, oldest first.
        action: action type of its events.
        label: 1 for a known click, null where it is unknown whether it was clicked.
    """

    __pydantic_config__ = STRICT

    column: str
    action: str
    label: int | None = None

    def __post_init__(self) -> None:
        if self.label not in (None, 0, 1):
            raise ValueError(
                f"column {self.column!r}: label {self.label}: 0, 1 or null is accepted"
            )


@dataclass(frozen=True, kw_only=True)
class PriorHistory:
    """What each user saw before the first day of the log, without a time for each event.

    The order in the lists is trusted, and all events lie before the first row of the log.
    The first sequence is the base; an item that a later sequence names as well takes that
    sequence's action and label, and one that only a later sequence names lies before the base.

    Attributes:
        files: patterns under the data folder, Parquet.
        key: column that holds the user.
        sequences: list columns, weakest action first.
        total: column with the true number of events, for ``history_length_total``.
        required: whether missing files are an error.
    """

    __pydantic_config__ = STRICT

    files: tuple[str, ...]
    key: str
    sequences: tuple[PriorSequence, ...]
    total: str | None = None
    required: bool = True

    def __post_init__(self) -> None:
        if not self.sequences:
            raise ValueError("sequences: at least one is expected")


@dataclass(frozen=True, kw_only=True)
class Drop:
    """Rows of the log that are no impressions, such as a cancellation; they are only counted.

    Attributes:
        column: the column looked at.
        below: drops rows whose number is below this.
        not_matching: drops rows whose text does not match this regular expression in full.
        reason: name of the counter.
    """

    __pydantic_config__ = STRICT

    column: str
    below: float | None = None
    not_matching: str | None = None
    reason: str

    def __post_init__(self) -> None:
        if (self.below is None) == (self.not_matching is None):
            raise ValueError(f"drop {self.reason!r}: give either below or not_matching")
        if self.not_matching is not None:
            try:
                re.compile(self.not_matching)
            except re.error as error:
                raise ValueError(f"drop {self.reason!r}: not_matching: {error}") from error


@dataclass(frozen=True, kw_only=True)
class Negatives:
    """Negatives for a log of positives, sampled from the catalogue by popularity.

    Attributes:
        per_positive: negatives for each positive.
        power: exponent of the popularity (training positives); 1 is proportional, 0 uniform.
        seed: seed of the draw; the draw depends on seed, user, item and time alone.
    """

    __pydantic_config__ = STRICT

    per_positive: int = 4
    power: float = 1.0
    seed: int = 17

    def __post_init__(self) -> None:
        if not 1 <= self.per_positive <= 100:
            raise ValueError(f"per_positive {self.per_positive}: 1 to 100 is accepted")


@dataclass(frozen=True, kw_only=True)
class Split:
    """Split by time: by absolute dates, or relative to the end of the last day of the log.

    Dates are ISO 8601, in the log's time zone where they name none. Durations are such as
    "1d" or "6h".

    Attributes:
        train_start: earlier rows feed histories but are no examples; null: the first row.
        validation_start: start of the validation split.
        test_start: start of the test split.
        end: rows from here on are left out; null: after the last row.
        validation: duration of the validation split, instead of dates.
        test: duration of the test split, which ends with the last day.
        train: longest duration of the training split; null: from the first row.
    """

    __pydantic_config__ = STRICT

    train_start: str | None = None
    validation_start: str | None = None
    test_start: str | None = None
    end: str | None = None
    validation: str | None = None
    test: str | None = None
    train: str | None = None

    def __post_init__(self) -> None:
        absolute = self.validation_start is not None and self.test_start is not None
        relative = self.validation is not None and self.test is not None
        some_absolute = any((self.train_start, self.validation_start, self.test_start, self.end))
        some_relative = any((self.train, self.validation, self.test))
        if not (absolute or relative) or (some_absolute and some_relative):
            raise ValueError(
                "split: give validation_start and test_start (dates), "
                "or validation and test (durations), not a mix"
            )


@dataclass(frozen=True, kw_only=True)
class Log:
    """The files of the log.

    Attributes:
        files: patterns under the data folder.
        format: format of the files.
        timezone: time zone of its days.
    """

    __pydantic_config__ = STRICT

    files: tuple[str, ...]
    format: FileFormat = FileFormat.PARQUET
    timezone: str = "UTC"

    def __post_init__(self) -> None:
        try:
            zoneinfo.ZoneInfo(self.timezone)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError(
                f"timezone {self.timezone!r} is not known; an IANA name such as Asia/Shanghai is "
                "accepted"
            ) from error


@dataclass(frozen=True, kw_only=True)
class Side:
    """The side files.

    Attributes:
        user: fields by user.
        item: fields by item.
    """

    __pydantic_config__ = STRICT

    user: SideTable | None = None
    item: SideTable | None = None
