"""What a ranker reads and under which name, worked out once from the configuration.

Transform, the trainer, the ranker and the export all follow the same plan. It is plain Python.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

from models.capabilities import Backbone
from models.config import ActionFusion, Inputs, ModelConfig, TrainConfig
from schemas import features
from schemas.dataset import DatasetDescription
from schemas.dataset_sections import Field, FieldType, Per, Scale
from schemas.loading import build

CUSTOM_CONFIG_KEY = "lengthwise"
# Keys beside it: folder of the vocabularies that admission and expiry gave, and the ledger that
# they go on from with its digest.
VOCABULARIES_KEY = "vocabularies"
LEDGER_KEY = "id_ledger"
LEDGER_DIGEST_KEY = "id_ledger_digest"

# Indices in a transformed category, before the vocabulary.
PADDING_INDEX = 0
UNKNOWN_INDEX = 1
FIRST_INDEX = 2

# Transformed features: all other categories, whose vocabulary has this name too, and all numbers.
FIELDS = "fields"
NUMBERS = "numbers"

# Candidates of each user in a ``rank`` request.
CANDIDATE_COUNT = "candidate_count"

# Of packed examples: which events of its record each impression sees, from the first to before the
# last, counted from the oldest.
WINDOW_START = "window_start"
WINDOW_END = "window_end"

# Groups predictions by user for within-user metrics; it is a hash, and never an input.
USER_GROUP = "user_group"


@dataclass(frozen=True, kw_only=True)
class Category:
    """A categorical input.

    Attributes:
        name: name of the raw feature.
        type: int or string.
        buckets: rows that its values share by their hash; None: it has a vocabulary.
        has_own_table: whether it has rows of its own, apart from those that other categories than
            the parts of the item vector share.
    """

    name: str
    type: FieldType
    buckets: int | None = None
    has_own_table: bool = False


@dataclass(frozen=True, kw_only=True)
class Number:
    """A numeric input.

    Attributes:
        name: name of the raw feature.
        scale: what is applied before it is normalised.
        dtype: type of the raw feature.
    """

    name: str
    scale: Scale
    dtype: FieldType = FieldType.FLOAT


@dataclass(frozen=True, kw_only=True)
class RankerPlan:
    """What a ranker reads.

    Attributes:
        item: the item id; its history list is ``history_item_id``.
        history_fields: item fields that history events carry; with ``item`` they make the item
            vector, of the target and of each event.
        categories: all other categorical inputs, in the order of the columns of ``fields``.
        numbers: numeric inputs, in the order of the columns of ``numbers``.
        candidate_fields: names of the categories and numbers that belong to the item, or to the
            context and are declared to differ by candidate; all others are the same for all
            candidates of a request.
        fusion: how action types join the history.
        second_actions: ids of the action types whose events make a history of their own.
        action_types: number of action types; ids in ``history_action`` count from 1.
        max_length: longest history, in events.
        user: type of the user id, for the within-user metrics.
        min_count: occurrences that put an id or category into its vocabulary.
        packed: transformed examples hold several impressions of a user each.
    """

    item: Category
    history_fields: tuple[Category, ...]
    categories: tuple[Category, ...]
    numbers: tuple[Number, ...]
    candidate_fields: tuple[str, ...] = ()
    fusion: ActionFusion
    second_actions: tuple[int, ...] = ()
    action_types: int
    max_length: int
    user: FieldType
    min_count: int
    packed: bool = False

    @property
    def item_parts(self) -> tuple[Category, ...]:
        """What the item vector is made of: the id, then the fields that the history carries."""
        return (self.item, *self.history_fields)

    @property
    def vocabularies(self) -> tuple[str, ...]:
        """Names of all vocabularies."""
        members = [(part.name, part) for part in self.item_parts]
        members += [(self.table_of(category), category) for category in self.categories]
        return tuple(dict.fromkeys(name for name, member in members if member.buckets is None))

    @property
    def tables(self) -> tuple[str, ...]:
        """Names of all sets of indices that have rows of their own."""
        names = [part.name for part in self.item_parts]
        names += [self.table_of(category) for category in self.categories]
        return tuple(dict.fromkeys(names))

    def table_of(self, category: Category) -> str:
        """Returns the table of one of ``categories``."""
        return category.name if category.has_own_table else FIELDS

    def hashed(self, table: str) -> dict[str, int]:
        """Returns the buckets of the hashed categories of a table.

        Their rows lie after those of padding and unknown, in this order, and before the
        vocabulary's.
        """
        members = [part for part in self.item_parts if part.name == table]
        members += [item for item in self.categories if self.table_of(item) == table]
        return {member.name: member.buckets for member in members if member.buckets is not None}

    @property
    def history_lists(self) -> tuple[str, ...]:
        """Names of all history lists that are read."""
        lists = [features.HISTORY_ITEM_ID]
        lists += [features.history_feature(part.name) for part in self.history_fields]
        if self.fusion is not ActionFusion.NONE:
            lists.append(features.HISTORY_ACTION)
        return tuple(lists)


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """The part of a run's configuration that the model floor reads.

    Attributes:
        description: maps the log to the feature contract.
        protocol: history protocol.
        max_length: longest history, in events.
        model: the ``model`` section.
        train: the ``train`` section.
        pack_impressions: impressions that a transformed example holds at most; 0 for an example
            an impression.
        plain: all of it, as plain values, to be saved with the model.
    """

    description: DatasetDescription
    protocol: str
    max_length: int
    model: ModelConfig
    train: TrainConfig
    pack_impressions: int
    plain: dict[str, Any]

    @property
    def plan(self) -> RankerPlan:
        """What the ranker reads."""
        plan = make_plan(self.description, self.model, self.protocol, self.max_length)
        return dataclasses.replace(plan, packed=self.pack_impressions > 0)


def read_run_config(custom_config: dict[str, Any] | None) -> RunConfig:
    """Reads what the pipeline hands to ``preprocessing_fn`` and ``run_fn``.

    Args:
        custom_config: holds under ``lengthwise`` a JSON text with the keys ``description``,
            ``data``, ``model`` and ``train``.

    Raises:
        ValueError: a key is missing or has a value that is not accepted.
    """
    text = (custom_config or {}).get(CUSTOM_CONFIG_KEY)
    if not text:
        raise ValueError(f"custom_config: the key {CUSTOM_CONFIG_KEY!r} is missing or empty")
    plain = json.loads(text)
    missing = [key for key in ("description", "data", "model", "train") if key not in plain]
    if missing:
        raise ValueError(f"custom_config[{CUSTOM_CONFIG_KEY!r}]: keys {missing} are missing")
    history = plain["data"]["history"]
    return RunConfig(
        description=build(DatasetDescription, plain["description"], where="description"),
        protocol=history["protocol"],
        max_length=history["max_length"],
        model=build(ModelConfig, plain["model"], where="model"),
        train=build(TrainConfig, plain["train"], where="train"),
        pack_impressions=plain["data"].get("pack_impressions", 0),
        plain=plain,
    )


def make_plan(
    description: DatasetDescription, model: ModelConfig, protocol: str, max_length: int
) -> RankerPlan:
    """Works out what a ranker reads.

    Raises:
        ValueError: the model names a field or an action type that there is none of, or reads
            action types under a protocol that hides them.
    """
    names = [field.name for field in description.fields]
    if CANDIDATE_COUNT in names:
        raise ValueError(f"field {CANDIDATE_COUNT!r}: an input of the rank signature has this name")
    unknown = [name for name in model.inputs_excluded if name not in names]
    if unknown:
        raise ValueError(f"model.inputs_excluded {unknown}: no such fields; there are {names}")
    fields: list[Field] = []
    extra: tuple[str, ...] = ()
    if model.inputs is Inputs.FULL_SIDE:
        fields = [field for field in description.fields if field.name not in model.inputs_excluded]
        extra = model.extra_inputs
    buckets = model.hash_buckets
    categories = [
        Category(name=field.name, type=field.type, buckets=buckets.get(field.name))
        for field in fields
        if field.type is not FieldType.FLOAT
    ]
    carried = set(description.history_fields)
    history_fields = tuple(item for item in categories if item.name in carried)
    others = [item for item in categories if item.name not in carried]
    if features.USER_ID in extra:
        others.append(
            Category(
                name=features.USER_ID,
                type=description.user.type,
                buckets=buckets.get(features.USER_ID),
            )
        )
    named = [features.ITEM_ID, *(item.name for item in (*history_fields, *others))]
    for key, names_there in (
        ("hash_buckets", buckets),
        ("embedding_dims", model.embedding_dims),
    ):
        unknown = [name for name in names_there if name not in named]
        if unknown:
            raise ValueError(
                f"model.{key} {unknown}: the model reads no such categories; it reads {named}"
            )
    is_ruled = model.embedding_dim_rule is not None
    others = [
        dataclasses.replace(item, has_own_table=is_ruled or item.name in model.embedding_dims)
        for item in others
    ]
    numbers = [
        Number(name=field.name, scale=field.scale)
        for field in fields
        if field.type is FieldType.FLOAT
    ]
    numbers += [
        Number(name=name, scale=Scale.LOG1P, dtype=FieldType.INT)
        for name in (features.HISTORY_LENGTH, features.HISTORY_LENGTH_TOTAL)
        if name in extra
    ]
    actions = [action.name for action in description.actions]
    unknown = [name for name in model.second_history if name not in actions]
    if unknown:
        raise ValueError(f"model.second_history {unknown}: no such actions; there are {actions}")
    reads_history = model.backbone is not Backbone.NONE
    read = [category.name for category in others] + [number.name for number in numbers]
    own = {field.name for field in description.item_fields}
    own |= {field.name for field in description.context if field.per is Per.CANDIDATE}
    return RankerPlan(
        item=Category(
            name=features.ITEM_ID,
            type=description.item.type,
            buckets=buckets.get(features.ITEM_ID),
        ),
        history_fields=history_fields,
        categories=tuple(others),
        numbers=tuple(numbers),
        candidate_fields=tuple(name for name in read if name in own),
        fusion=model.fusion(protocol) if reads_history else ActionFusion.NONE,
        second_actions=tuple(description.action_id(name) for name in model.second_history),
        action_types=len(description.actions),
        max_length=max_length,
        user=description.user.type,
        min_count=model.vocabulary_min_count,
    )
