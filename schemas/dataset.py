"""Dataset descriptions: how the columns of any log map to the feature contract.

A description is a YAML file; those that ship lie in ``schemas/datasets/``. See
``docs/datasets.md`` for a guide with every key.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from schemas.dataset_sections import (
    Action,
    Column,
    Drop,
    Field,
    FieldType,
    Label,
    Log,
    Negatives,
    Per,
    PriorHistory,
    Side,
    Split,
    TimeColumn,
)
from schemas.loading import STRICT, ConfigError, build, read_yaml

# Beside the label, which is a feature as well.
_EVENT_COLUMNS = ("user", "item", "time", "action")
SHIPPED = Path(__file__).parent / "datasets"


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
        history_fields: item fields that each history event carries, categories.
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
        misplaced = [
            item.name for item in (*self.user_fields, *self.item_fields) if item.per != Per.REQUEST
        ]
        if misplaced:
            raise ValueError(
                f"fields {misplaced}: per is for context fields; a user's field is per request "
                "and an item's per candidate"
            )
        timeless = [item.name for item in (*self.user_fields, *self.item_fields) if item.derive]
        if timeless:
            raise ValueError(f"fields {timeless}: derive is for context fields, which have a time")
        self._check_actions()
        self._check_outcomes()
        own = [item.name for item in self.context if item.name in _EVENT_COLUMNS]
        if own:
            raise ValueError(
                f"context {own}: columns of every event are called {list(_EVENT_COLUMNS)}; give "
                "another name, and this one as column"
            )
        item_fields = [item.name for item in self.item_fields]
        unknown = [name for name in self.history_fields if name not in item_fields]
        if unknown:
            raise ValueError(
                f"history_fields {unknown}: no such item fields; there are {item_fields}"
            )
        numbers = [
            item.name
            for item in self.item_fields
            if item.name in self.history_fields and item.type is FieldType.FLOAT
        ]
        if numbers:
            raise ValueError(
                f"history_fields {numbers}: events carry categories; int or string is accepted"
            )
        if self.label.constant is not None and self.negatives is None:
            raise ValueError("label.constant: a log of positives needs a negatives section")
        if self.label.constant is None and self.negatives is not None:
            raise ValueError("negatives: only for a log of positives (label.constant: 1)")
        of_candidates = [item.name for item in self.context if item.per is Per.CANDIDATE]
        if self.negatives is not None and of_candidates:
            raise ValueError(
                f"context {of_candidates}: a sampled negative would have the value of the item "
                "that was taken, which tells them apart; a field of side.item is accepted"
            )

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
