"""Dataset descriptions: how the columns of any log map to the feature contract.

A description is a YAML file; those that ship lie in ``schemas/datasets/``. See
``docs/datasets.md`` for a guide with every key.
"""

from __future__ import annotations

import dataclasses
import enum
import re
import zoneinfo
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from schemas import features
from schemas.loading import STRICT, ConfigError, build, read_yaml

SHIPPED = Path(__file__).parent / "datasets"


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
    """

    __pydantic_config__ = STRICT

    name: str
    column: str | None = None
    type: FieldType = FieldType.STRING
    missing: tuple[str | int | float, ...] = ()
    scale: Scale = Scale.LINEAR
    derive: Derived | None = None

    def __post_init__(self) -> None:
        if self.name in features.RESERVED or self.name.startswith(features.HISTORY_PREFIX):
            raise ValueError(f"field name {self.name!r} is taken by the feature contract")
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", self.name):
            raise ValueError(f"field name {self.name!r}: letters, digits and _ are accepted")
        if self.derive is not None and self.column is not None:
            raise ValueError(f"field {self.name!r}: give either column or derive")
        if self.derive is not None and self.type is not FieldType.INT:
            raise ValueError(f"field {self.name!r}: a derived field is of type int")

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
        except (zoneinfo.ZoneInfoNotFoundError, ValueError) as error:
            raise ValueError(f"timezone {self.timezone!r} is not known") from error


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


@dataclass(frozen=True, kw_only=True)
class DatasetDescription:
    """Maps a log to the feature contract.

    Attributes:
        name: name of the dataset.
        about: what it is, in a sentence or two.
        log: the files of the log.
        user: column of the user.
        item: column of the item.
        time: column of the time.
        label: where the label comes from.
        actions: action types, strongest first; ids in ``history_action`` count from 1 in this
            order.
        outcomes: columns that are consequences of the impression and so never inputs.
        context: fields of the impression that are known before its outcome.
        side: side files of users and items.
        history_fields: item fields that each history event carries.
        prior_history: what users saw before the log begins.
        drop: rows that are no impressions.
        negatives: sampling of negatives, for a log of positives.
        split: default split by time.
    """

    __pydantic_config__ = STRICT

    name: str
    about: str = ""
    log: Log
    user: Column
    item: Column
    time: TimeColumn
    label: Label
    actions: tuple[Action, ...]
    outcomes: tuple[str, ...] = ()
    context: tuple[Field, ...] = ()
    side: Side = field(default_factory=Side)
    history_fields: tuple[str, ...] = ()
    prior_history: PriorHistory | None = None
    drop: tuple[Drop, ...] = ()
    negatives: Negatives | None = None
    split: Split

    def __post_init__(self) -> None:
        names = [item.name for item in self.fields]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"field names used twice: {repeated}")
        self._check_actions()
        self._check_outcomes()
        item_fields = [item.name for item in self.item_fields]
        unknown = [name for name in self.history_fields if name not in item_fields]
        if unknown:
            raise ValueError(
                f"history_fields {unknown}: no such item fields; there are {item_fields}"
            )
        if self.label.constant is not None and self.negatives is None:
            raise ValueError("label.constant: a log of positives needs a negatives section")
        if self.label.constant is None and self.negatives is not None:
            raise ValueError("negatives: only for a log of positives (label.constant: 1)")

    def _check_actions(self) -> None:
        names = [action.name for action in self.actions]
        if len(set(names)) != len(names):
            raise ValueError(f"actions: names must differ, found {names}")
        fallbacks = [a.name for a in self.actions if not a.when and not a.prior_only]
        logged = [a.name for a in self.actions if not a.prior_only]
        if fallbacks != logged[-1:]:
            raise ValueError(
                "actions: exactly the last type of the log must have no 'when' "
                f"(it takes what no stronger type holds for), found {fallbacks}"
            )
        if self.prior_history is not None:
            unknown = [s.action for s in self.prior_history.sequences if s.action not in names]
            if unknown:
                raise ValueError(f"prior_history: unknown actions {unknown}; there are {names}")

    def _check_outcomes(self) -> None:
        consequences = {*self.outcomes, *self.action_columns}
        if self.label.column is not None:
            consequences.add(self.label.column)
        leaks = [item.name for item in self.context if item.source in consequences]
        if leaks:
            raise ValueError(
                f"context {leaks}: a consequence of the impression can never be an input of it"
            )

    @property
    def user_fields(self) -> tuple[Field, ...]:
        """Fields joined by user."""
        return self.side.user.fields if self.side.user else ()

    @property
    def item_fields(self) -> tuple[Field, ...]:
        """Fields joined by item."""
        return self.side.item.fields if self.side.item else ()

    @property
    def fields(self) -> tuple[Field, ...]:
        """All fields: context, user, item."""
        return (*self.context, *self.user_fields, *self.item_fields)

    @property
    def action_columns(self) -> tuple[str, ...]:
        """Columns of flags that action types read, each once."""
        return tuple(dict.fromkeys(column for action in self.actions for column in action.when))

    def action_id(self, name: str) -> int:
        """Returns the id of an action type in ``history_action``, counting from 1."""
        return [action.name for action in self.actions].index(name) + 1


def load_description(name_or_path: str) -> DatasetDescription:
    """Loads a shipped description by name, or one from a YAML file.

    Raises:
        ConfigError: there is none, or a key is unknown, missing or of the wrong type.
    """
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        path = SHIPPED / f"{name_or_path}.yaml"
        if not path.exists():
            shipped = ", ".join(sorted(file.stem for file in SHIPPED.glob("*.yaml")))
            raise ConfigError(
                f"data.dataset: no description named {name_or_path!r}; "
                f"there are {shipped}, or give the path of a .yaml file"
            )
    return build(DatasetDescription, read_yaml(path), where=str(path))


def field_names(description: DatasetDescription) -> list[str]:
    """Returns the names of all fields of a description, in contract order."""
    return [item.name for item in description.fields]


def describe(description: DatasetDescription) -> dict[str, Any]:
    """Returns a description as plain values, every default filled in."""
    return dataclasses.asdict(description)
