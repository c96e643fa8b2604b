"""Configuration of the model and of its training, free of TensorFlow."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from models.axis_checks import check_axes
from models.backbones.config import (
    HyformerOptions,
    LainOptions,
    LensOptions,
    LongHistoryOptions,
    MixformerOptions,
    OneTransOptions,
    Position,
)
from models.capabilities import Backbone
from models.layers.config import AttentionActivation
from models.workers.cluster import ClusterError, check_addresses
from schemas import features
from schemas.loading import STRICT

# Known before the impression, so a model may read them; every other reserved name is refused.
EXTRA_INPUTS = (features.USER_ID, features.HISTORY_LENGTH, features.HISTORY_LENGTH_TOTAL)

TYPED_EXPOSURE = "typed_exposure"

# What Transform depends on; the rest of the model section must not invalidate its cache.
TRANSFORM_KEYS = (
    "inputs",
    "inputs_excluded",
    "extra_inputs",
    "action_fusion",
    "vocabulary_min_count",
    "vocabulary_expiry_days",
    "hash_buckets",
    "embedding_dims",
    "embedding_dim_rule",
)

# Rows of a hashed table.
MAX_HASH_BUCKETS = 2**30


class Inputs(str, enum.Enum):
    """Which features the model reads (LENS, arXiv 2605.25583, input scopes)."""

    FULL_SIDE = "full_side"
    CONTROLLED = "controlled"


class ActionFusion(str, enum.Enum):
    """How an event's action type joins its item vector (LENS, typed exposure)."""

    NONE = "none"
    ADD = "add"
    CONCAT = "concat"


class ItemFusion(str, enum.Enum):
    """How the embeddings of an item's id and of its fields become the item vector."""

    CONCAT = "concat"
    SUM = "sum"


class TableOptimizer(str, enum.Enum):
    """Optimiser of the embedding tables; each touches the rows of the batch only."""

    ADAGRAD = "adagrad"
    ROWWISE_ADAGRAD = "rowwise_adagrad"
    LAZY_ADAM = "lazy_adam"
    FTRL = "ftrl"


class LearningRateSchedule(str, enum.Enum):
    """How the learning rates go over a training."""

    CONSTANT = "constant"
    LINEAR = "linear"


class TablePrecision(str, enum.Enum):
    """How an export keeps the embedding tables."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    INT8 = "int8"


class ValidationMetric(str, enum.Enum):
    """Metric on the validation split that the best epoch is chosen by."""

    AUC = "auc"


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The ``model`` section of a run.

    Attributes:
        backbone: what turns the history into an interest vector.
        embedding_dim: width of every embedding.
        inputs: ``full_side`` reads all context and side fields; ``controlled`` only the item
            and the history of items and actions.
        inputs_excluded: fields of the description that are not read.
        extra_inputs: what is read beside the fields: any of user_id, history_length and
            history_length_total. Not read under ``controlled``.
        action_fusion: how action types join the history, for the typed_exposure protocol only;
            null: ``add`` under typed_exposure, else ``none``.
        second_history: action types whose events make a history of their own, which half of
            hyformer's queries read; the other half read all other events. Empty for one history.
        embedding_dims: widths by table where they differ, ``item_id`` or the name of a category:
            at most ``embedding_dim``, to which rows are projected. A category that is named has
            a vocabulary of its own.
        embedding_dim_rule: width of all tables that are not named there, as a factor of the
            fourth root of their entries (:mod:`models.embedding_widths`); every category then
            has a vocabulary of its own. Null: ``embedding_dim``.
        item_fusion: ``concat`` or ``sum`` of the embeddings of the item and of the item fields
            that the history carries.
        vocabulary_min_count: an id or category seen less often in the training split (as
            target or in histories) shares the out-of-vocabulary embedding, which so is trained.
        vocabulary_expiry_days: keeps a ledger of ids from run to run (:mod:`models.id_ledger`):
            occurrences add up over the runs, and an id that is not seen for so many days leaves
            the vocabulary; null: the vocabulary is that of the training split alone.
        hash_buckets: buckets by name of a category, ``item_id`` or a field: it has no vocabulary,
            and its ids share so many rows (:mod:`models.hashing`).
        hidden_units: widths of the layers of the head, without the last one of width 1.
        position: how a latent-query backbone knows where in the history an event stands.
        lens: target conditioning of a latent-query backbone (LENS); null for none.
        lain: adaptation to the history length (LAIN); null for none. Mean and deviation of the
            length come from the SequenceProfile.
        hyformer: options of that backbone.
        mixformer: options of that backbone.
        onetrans: options of that backbone.
        long_history: options of sim, eta, sdim and twin.
        attention_units: widths of the hidden layers of din's activation unit.
        attention_activation: ``prelu`` or ``dice``, of these layers.
        attention_batch_norm: normalises these layers before their activation. Its statistics and
            those of ``dice`` are over the events of the whole batch, so ``length_groups`` must be
            1.
        dropout: share of the head's hidden units that is dropped in training, from 0 to 1.
        embedding_dropout: share of the head's inputs that is dropped in training.
        embedding_l2: weight of the mean squared norm of the embeddings an example reads.
        embedding_init_std: standard deviation of the normal that embeddings start from.
        length_groups: groups of like length that the history part of a batch runs in; more
            save padding and cost graph size. The result does not depend on it.
    """

    __pydantic_config__ = STRICT

    backbone: Backbone = Backbone.DIN
    embedding_dim: int = 32
    embedding_dims: dict[str, int] = field(default_factory=dict)
    embedding_dim_rule: float | None = None
    inputs: Inputs = Inputs.FULL_SIDE
    inputs_excluded: tuple[str, ...] = ()
    extra_inputs: tuple[str, ...] = (features.HISTORY_LENGTH, features.HISTORY_LENGTH_TOTAL)
    action_fusion: ActionFusion | None = None
    second_history: tuple[str, ...] = ()
    item_fusion: ItemFusion = ItemFusion.CONCAT
    vocabulary_min_count: int = 2
    vocabulary_expiry_days: int | None = None
    hash_buckets: dict[str, int] = field(default_factory=dict)
    hidden_units: tuple[int, ...] = (256, 128)
    position: Position = Position.NONE
    lens: LensOptions | None = None
    lain: LainOptions | None = None
    hyformer: HyformerOptions = field(default_factory=HyformerOptions)
    mixformer: MixformerOptions = field(default_factory=MixformerOptions)
    onetrans: OneTransOptions = field(default_factory=OneTransOptions)
    long_history: LongHistoryOptions = field(default_factory=LongHistoryOptions)
    attention_units: tuple[int, ...] = (64,)
    attention_activation: AttentionActivation = AttentionActivation.PRELU
    attention_batch_norm: bool = False
    dropout: float = 0.0
    embedding_dropout: float = 0.0
    embedding_l2: float = 0.0
    embedding_init_std: float = 0.01
    length_groups: int = 4

    def __post_init__(self) -> None:
        check_axes(self)
        self._check_inputs()
        self._check_batch_statistics()
        for name in (
            "embedding_dim", "vocabulary_min_count", "vocabulary_expiry_days", "length_groups"
        ):  # fmt: skip
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)}: at least 1 is accepted")
        for name, width in self.embedding_dims.items():
            if not 1 <= width <= self.embedding_dim:
                raise ValueError(
                    f"embedding_dims {name} {width}: 1 to embedding_dim {self.embedding_dim} is "
                    "accepted"
                )
        if self.embedding_dim_rule is not None and self.embedding_dim_rule <= 0:
            raise ValueError(f"embedding_dim_rule {self.embedding_dim_rule}: above 0 is accepted")
        for name, buckets in self.hash_buckets.items():
            if not 2 <= buckets <= MAX_HASH_BUCKETS:
                raise ValueError(
                    f"hash_buckets {name} {buckets}: 2 to {MAX_HASH_BUCKETS} is accepted"
                )
        for name in ("hidden_units", "attention_units"):
            if not getattr(self, name) or min(getattr(self, name)) < 1:
                raise ValueError(f"{name} {list(getattr(self, name))}: widths from 1 expected")
        for name in ("dropout", "embedding_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)}: 0 to below 1 is accepted")
        if self.embedding_l2 < 0:
            raise ValueError(f"embedding_l2 {self.embedding_l2}: at least 0 is accepted")
        if self.embedding_init_std <= 0:
            raise ValueError(f"embedding_init_std {self.embedding_init_std}: above 0 is accepted")

    def _check_batch_statistics(self) -> None:
        """Refuses statistics of a batch that would be those of its groups."""
        options = {
            "attention_activation dice": self.attention_activation is AttentionActivation.DICE,
            "attention_batch_norm true": self.attention_batch_norm,
        }
        chosen = [option for option, is_on in options.items() if is_on]
        if chosen and self.backbone is Backbone.DIN and self.length_groups != 1:
            raise ValueError(
                f"length_groups {self.length_groups} with {' and '.join(chosen)}: each group of "
                "like length would be normalised by itself, while scoring uses one average of "
                "all; length_groups 1 is accepted"
            )

    def _check_inputs(self) -> None:
        never = sorted(set(self.extra_inputs) & features.NEVER_INPUTS)
        if never:
            raise ValueError(
                f"extra_inputs {never}: can never be an input, since it holds the row's own or "
                f"later clicks; {list(EXTRA_INPUTS)} are accepted"
            )
        unknown = [name for name in self.extra_inputs if name not in EXTRA_INPUTS]
        if unknown:
            raise ValueError(
                f"extra_inputs {unknown}: {list(EXTRA_INPUTS)} are accepted; fields of the "
                "dataset description are read without being named"
            )

    def fusion(self, protocol: str) -> ActionFusion:
        """Resolves ``action_fusion`` for a history protocol.

        Raises:
            ValueError: actions are to be read under a protocol that hides them.
        """
        if self.second_history and (
            protocol != TYPED_EXPOSURE or self.action_fusion is ActionFusion.NONE
        ):
            fusion = self.action_fusion.value if self.action_fusion else "null"
            raise ValueError(
                f"model.second_history: events are told apart by their action types; found "
                f"protocol {protocol} and action_fusion {fusion}; {TYPED_EXPOSURE} with add, "
                "concat or null is accepted"
            )
        if self.action_fusion is None:
            return ActionFusion.ADD if protocol == TYPED_EXPOSURE else ActionFusion.NONE
        if self.action_fusion is not ActionFusion.NONE and protocol != TYPED_EXPOSURE:
            raise ValueError(
                f"model.action_fusion {self.action_fusion.value!r}: only the history protocol "
                f"{TYPED_EXPOSURE} shows action types to a model, found {protocol}; null or none "
                "is accepted"
            )
        return self.action_fusion


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The ``train`` section of a run.

    Attributes:
        seed: seed of weights, shuffling and dropout.
        batch_size: examples a step, over all devices.
        max_epochs: passes over the training split at most.
        learning_rate: of Adam, for all weights but the embedding tables.
        learning_rate_schedule: ``constant``, or ``linear`` from all learning rates down to 0 at
            the end of the last of ``max_epochs``.
        table_optimizer: optimiser of the embedding tables.
        table_learning_rate: of the embedding tables; null: a default by optimiser.
        table_l1: L1 term of ``ftrl``, which sets weights of the tables to exactly 0.
        table_l2: L2 term of ``ftrl``.
        learning_rates: learning rates of groups of weights, by a shell pattern of the places
            (:func:`models.weight_places.weights_by_place`) of their weights; the first pattern
            that fits a weight counts, and one that fits none is an error.
        patience: epochs without a better validation metric before training stops.
        metric: metric on the validation split that the best epoch is chosen by.
        refit: trains once more, from the same seed, on training and validation split together
            for the number of epochs that validation chose; the fresher days often matter.
        mixed_precision: trains in bfloat16 with float32 weights and logits; the export is float32.
        deterministic: repeats training bit for bit on the same CPU, also in a run built anew from
            the same raw log with the same configuration; another ``data.shards`` gives another
            order of the examples.
        shuffle_buffer: examples that are shuffled at a time.
        checkpoint_minutes: minutes between two checkpoints, beside that of each epoch's end.
        export_tables: how the export keeps the embedding tables, ``float32``, ``float16``, or
            ``int8`` with a scale a row; training and warm start do without the rounding.
        warm_start: model whose weights training starts from: ``none``, ``latest`` (the newest
            version under ``push.destination`` that was trained on other data) or the folder of
            an exported model.
        workers: ``host:port`` of each process that trains, the chief first; null: this one
            alone, with all its devices. ``TF_CONFIG`` in the environment goes before it.
        stall_minutes: minutes without a finished step, batch or checkpoint after which a training
            on several workers is given up, with an error that names the one waited for.
    """

    __pydantic_config__ = STRICT

    seed: int = 1
    batch_size: int = 1024
    max_epochs: int = 3
    learning_rate: float = 1e-3
    learning_rate_schedule: LearningRateSchedule = LearningRateSchedule.CONSTANT
    table_optimizer: TableOptimizer = TableOptimizer.LAZY_ADAM
    table_learning_rate: float | None = None
    table_l1: float = 0.0
    table_l2: float = 0.0
    learning_rates: dict[str, float] = field(default_factory=dict)
    patience: int = 1
    metric: ValidationMetric = ValidationMetric.AUC
    refit: bool = False
    mixed_precision: bool = False
    deterministic: bool = True
    shuffle_buffer: int = 100_000
    checkpoint_minutes: float = 10.0
    export_tables: TablePrecision = TablePrecision.FLOAT32
    warm_start: str = "none"
    workers: tuple[str, ...] | None = None
    stall_minutes: float = 60.0

    def __post_init__(self) -> None:
        if self.workers is not None:
            try:
                check_addresses(self.workers)
            except ClusterError as error:
                raise ValueError(f"workers {error}") from error
        for name in ("checkpoint_minutes", "stall_minutes"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} {getattr(self, name)}: above 0 is accepted")
        if not self.warm_start.strip():
            raise ValueError("warm_start '': none, latest or the folder of a model is accepted")
        for name in ("batch_size", "max_epochs", "patience", "shuffle_buffer"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)}: at least 1 is accepted")
        if not 0 <= self.seed < 2**31:
            raise ValueError(f"seed {self.seed}: 0 to {2**31 - 1} is accepted")
        rates = {"learning_rate": self.learning_rate, **self.learning_rates}
        if self.table_learning_rate is not None:
            rates["table_learning_rate"] = self.table_learning_rate
        for name, value in rates.items():
            if not 0 < value < 10:
                raise ValueError(f"{name} {value}: above 0 and below 10 is accepted")
        if (
            self.table_optimizer is TableOptimizer.FTRL
            and self.learning_rate_schedule is not LearningRateSchedule.CONSTANT
        ):
            raise ValueError(
                f"learning_rate_schedule {self.learning_rate_schedule.value} with table_optimizer "
                "ftrl: its weights are in proportion to the rate, so they would fall with it; "
                "constant is accepted"
            )
        for name in ("table_l1", "table_l2"):
            value = getattr(self, name)
            if value < 0:
                raise ValueError(f"{name} {value}: at least 0 is accepted")
            if value and self.table_optimizer is not TableOptimizer.FTRL:
                raise ValueError(
                    f"{name} {value} with table_optimizer {self.table_optimizer.value}: this term "
                    "is ftrl's; 0 or ftrl is accepted"
                )

    @property
    def resolved_table_learning_rate(self) -> float:
        """Learning rate of the embedding tables."""
        if self.table_learning_rate is not None:
            return self.table_learning_rate
        return DEFAULT_TABLE_LEARNING_RATES[self.table_optimizer]


DEFAULT_TABLE_LEARNING_RATES = {
    TableOptimizer.ADAGRAD: 0.05,
    TableOptimizer.ROWWISE_ADAGRAD: 0.05,
    TableOptimizer.LAZY_ADAM: 1e-3,
    TableOptimizer.FTRL: 0.05,
}
