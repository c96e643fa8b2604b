"""The ranker: embeddings, a backbone over the history, and a head."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import tensorflow as tf
import tensorflow_recommenders as tfrs

from models.action_fusion import ActionFusionLayer
from models.alignment import keep_events, right_align
from models.backbones.base import SequenceInputs
from models.backbones.registry import make_backbone
from models.capabilities import CAPABILITIES, Backbone
from models.config import ActionFusion, ItemFusion, ModelConfig
from models.embedding_widths import table_widths
from models.embeddings import StackedEmbedding
from models.layers.candidates import group_by_user, repeat_for_candidates, ungroup
from models.layers.masking import masked_mean
from models.length_groups import cut_by_length
from models.mixed_embedding import MixedEmbedding
from models.packing import (
    PackedGroup,
    is_packed,
    make_groups,
    reads_windows,
    record_mask,
    restore,
    unpack_history,
)
from models.plan import FIELDS, FIRST_INDEX, NUMBERS, RankerPlan
from models.ranker_parts import HistoryResults, ItemVectors
from schemas import features
from schemas.profile import SequenceProfile

Features: TypeAlias = Mapping[str, tf.Tensor | tf.RaggedTensor]


class Ranker(tfrs.Model):
    """Scores a target item for a user from history, context and side fields.

    One table serves the target and the history. The item vector is made of the embeddings of
    the id and of the item fields that the history carries; the backbone reads it, and the head
    reads the concatenation of non-sequence fields, target and the backbone's interest, or the
    interest alone where the backbone reads the fields itself.

    The history part runs in groups of rows of like length, each padded to its own longest row,
    so that the work follows the true lengths; the result is that of one padded batch.

    Args:
        plan: what the ranker reads.
        config: the ``model`` section.
        vocabulary_sizes: entries of each table of the plan, without padding and unknown.
        global_batch_size: rows of a step over all devices; the loss is divided by it.
        profile: statistics of the training split, for the layers that are set by them.
    """

    def __init__(
        self,
        plan: RankerPlan,
        config: ModelConfig,
        vocabulary_sizes: Mapping[str, int],
        *,
        global_batch_size: int,
        profile: SequenceProfile | None = None,
    ) -> None:
        super().__init__(name="ranker")
        self.plan = plan
        self.config = config
        self.profile = profile
        self.length_groups = config.length_groups
        self._global_batch_size = global_batch_size
        parts = [part.name for part in plan.item_parts]
        is_concat = config.item_fusion is ItemFusion.CONCAT
        self.item_dim = config.embedding_dim * (len(parts) if is_concat else 1)
        self.item_embedding = self._embedding(parts, vocabulary_sizes, "items")
        self.field_embedding = None
        if plan.categories:
            names = list(dict.fromkeys(map(plan.table_of, plan.categories)))
            self.field_embedding = self._embedding(names, vocabulary_sizes, "fields")
        self.action_fusion = None
        if plan.fusion is not ActionFusion.NONE:
            self.action_fusion = ActionFusionLayer(
                plan.fusion, plan.action_types, self.item_dim, config.embedding_init_std, "actions"
            )
        self.backbone: Any = None
        if config.backbone is not Backbone.NONE:
            self.backbone = make_backbone(config, max_length=plan.max_length, profile=profile)
        # SIM's search learns from a click prediction of its own.
        self._has_auxiliary = config.backbone is Backbone.SIM
        self.input_dropout = tf.keras.layers.Dropout(config.embedding_dropout)
        self.head = _make_head(config)
        self.task = tfrs.tasks.Ranking(
            loss=tf.keras.losses.BinaryCrossentropy(
                from_logits=True, reduction=tf.keras.losses.Reduction.NONE
            )
        )

    def call(
        self, inputs: Features, training: bool = False, shared_history: bool = False
    ) -> tf.Tensor:
        """Returns logits, float32 [rows].

        Args:
            inputs: transformed features; or a packed batch, see :mod:`models.packing`.
            training: whether dropout is on.
            shared_history: histories have a row a user and all else a multiple of these rows, a
                user's candidates in consecutive ones; what depends on the history alone is then
                computed once a user.
        """
        return self._forward(inputs, training, shared_history)[0]

    def compute_loss(self, inputs: Features, training: bool = False) -> tf.Tensor:
        """Returns this device's share of the mean loss over the global batch.

        The sum over rows is divided by the global batch size, so that shares add up to the mean
        on any number of devices and each example weighs the same in a smaller last batch.
        """
        logits, penalty, auxiliary = self._forward(inputs, training)
        labels = inputs[features.LABEL][:, tf.newaxis]
        losses = self.task(
            labels=labels, predictions=logits[:, tf.newaxis], compute_metrics=not training
        )
        total = tf.reduce_sum(losses)
        if auxiliary is not None:
            total += tf.reduce_sum(tf.nn.sigmoid_cross_entropy_with_logits(labels[:, 0], auxiliary))
        if self.config.embedding_l2:
            total += self.config.embedding_l2 * tf.reduce_sum(penalty)
        return total / self._global_batch_size

    @property
    def tables(self) -> list[tf.Variable]:
        """Embedding tables, which the sparse optimiser updates."""
        return [layer.table for layer in self.embeddings]

    @property
    def embeddings(self) -> list[StackedEmbedding]:
        """Layers that the embedding tables belong to."""
        layers = [self.item_embedding, self.field_embedding]
        return [
            stack
            for layer in layers
            if layer is not None
            for stack in (layer.stacks.values() if isinstance(layer, MixedEmbedding) else [layer])
        ]

    @property
    def dense_weights(self) -> list[tf.Variable]:
        """All other trainable weights."""
        tables = {table.ref() for table in self.tables}
        return [weight for weight in self.trainable_variables if weight.ref() not in tables]

    def _forward(
        self, inputs: Features, training: bool, shared_history: bool = False
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor | None]:
        """Returns logits, squared norms of the embeddings read, and auxiliary logits, [rows]."""
        items = self._embed_items(inputs)
        non_sequence = self._embed_fields(inputs)
        read = self._run_history(inputs, items, non_sequence, training, shared_history)
        joined = [read.interest]
        if not CAPABILITIES[self.config.backbone].reads_fields:
            joined = [non_sequence, items.target, *joined]
        head_inputs = self.input_dropout(tf.concat(joined, axis=-1), training=training)
        logits = self.head(head_inputs, training=training)
        embedded = [items.target, non_sequence[:, : self._fields_dim]]
        penalty = read.event_norm + _squared_norm(tf.concat(embedded, axis=-1))
        return tf.cast(tf.squeeze(logits, axis=-1), tf.float32), penalty, read.auxiliary

    def _embed_items(self, inputs: Features) -> ItemVectors:
        """Looks up the target and all events; each row of the table once."""
        parts = self.plan.item_parts
        ids = [(part.name, inputs[part.name]) for part in parts]
        histories = []
        if self.backbone is not None:
            histories = [inputs[features.history_feature(part.name)] for part in parts]
            lists = zip(parts, histories, strict=True)
            ids += [(part.name, ragged.values) for part, ragged in lists]
        rows, positions = self.item_embedding.unique_rows(ids)
        targets, events = positions[: len(parts)], positions[len(parts) :]
        return ItemVectors(
            target=self._item_vector(tf.gather(rows, tf.stack(targets, axis=-1))),
            rows=rows,
            events=[
                ragged.with_values(values) for ragged, values in zip(histories, events, strict=True)
            ],
        )

    def _embed_fields(self, inputs: Features) -> tf.Tensor:
        """Returns the embeddings of categories, then the numbers, [rows, fields_dim]."""
        batch = tf.shape(inputs[features.ITEM_ID])[0]
        pieces = []
        if self.field_embedding is not None:
            tables = [self.plan.table_of(category) for category in self.plan.categories]
            # One tensor of ids where all columns are of one table.
            columns = [inputs[FIELDS]] if set(tables) == {FIELDS} else None
            if columns is None:
                columns = tf.split(inputs[FIELDS], len(tables), axis=1)
            ids = [
                (table, tf.reshape(column, [-1]))
                for table, column in zip(tables[: len(columns)], columns, strict=True)
            ]
            rows, positions = self.field_embedding.unique_rows(ids)
            places = tf.concat(
                [
                    tf.reshape(place, tf.shape(column))
                    for place, column in zip(positions, columns, strict=True)
                ],
                axis=1,
            )
            vectors = tf.gather(rows, places)  # [rows, fields, dim]
            pieces.append(tf.reshape(vectors, [batch, self._fields_dim]))
        if self.plan.numbers:
            pieces.append(tf.cast(inputs[NUMBERS], self.compute_dtype))
        return tf.concat(pieces, axis=-1) if pieces else tf.zeros([batch, 0], self.compute_dtype)

    @property
    def _action_lists(self) -> list[str]:
        """What the history part reads of the inputs beside the items."""
        return [] if self.action_fusion is None else [features.HISTORY_ACTION]

    @property
    def _fields_dim(self) -> int:
        return len(self.plan.categories) * self.config.embedding_dim

    def _run_history(
        self,
        inputs: Features,
        items: ItemVectors,
        non_sequence: tf.Tensor,
        training: bool,
        shared_history: bool,
    ) -> HistoryResults:
        """Runs the history part in groups of like length; results are in batch order."""
        if self.backbone is None:
            nothing = items.target[:, :0]
            norm = tf.reduce_sum(tf.cast(nothing, tf.float32), axis=-1)
            return HistoryResults(nothing, norm, None)
        lengths = items.events[0].row_lengths()
        if is_packed(inputs) and reads_windows(self.config):
            return self._run_packed(inputs, items, non_sequence, lengths, training)
        if is_packed(inputs):
            items = items._replace(events=[unpack_history(part, inputs) for part in items.events])
            inputs = {name: unpack_history(inputs[name], inputs) for name in self._action_lists}
            lengths = items.events[0].row_lengths()
        if self.length_groups == 1:
            return self._run_group(inputs, items, non_sequence, lengths, training, shared_history)
        batch = tf.shape(lengths)[0]

        def gather(per_candidate: tf.Tensor, chosen: tf.Tensor) -> tf.Tensor:
            if not shared_history:
                return tf.gather(per_candidate, chosen)
            return ungroup(tf.gather(group_by_user(per_candidate, batch), chosen))

        groups = cut_by_length(lengths, self.length_groups)
        results = []
        for group in range(self.length_groups):
            chosen = groups.rows(group)
            group_items = ItemVectors(
                target=gather(items.target, chosen),
                rows=items.rows,
                events=[tf.gather(ragged, chosen) for ragged in items.events],
            )
            group_inputs = {name: tf.gather(inputs[name], chosen) for name in self._action_lists}
            results.append(
                self._run_group(
                    group_inputs,
                    group_items,
                    gather(non_sequence, chosen),
                    tf.gather(lengths, chosen),
                    training,
                    shared_history,
                )
            )
        back = tf.math.invert_permutation(groups.order)
        return HistoryResults(
            *(
                None if pieces[0] is None else gather(tf.concat(pieces, axis=0), back)
                for pieces in zip(*results, strict=True)
            )
        )

    def _run_packed(
        self,
        inputs: Features,
        items: ItemVectors,
        non_sequence: tf.Tensor,
        lengths: tf.Tensor,
        training: bool,
    ) -> HistoryResults:
        """Runs the history part with a row a record, each of its impressions seeing a window."""
        groups = make_groups(inputs, lengths, self.length_groups)
        results = [
            self._run_group(
                {name: tf.gather(inputs[name], group.records) for name in self._action_lists},
                ItemVectors(
                    target=group.spread(items.target),
                    rows=items.rows,
                    events=[tf.gather(ragged, group.records) for ragged in items.events],
                ),
                group.spread(non_sequence),
                tf.gather(lengths, group.records),
                training,
                shared_history=True,
                packed=group,
            )
            for group in groups
        ]
        interests, norms, _ = zip(*results, strict=True)
        return HistoryResults(restore(groups, interests), restore(groups, norms), None)

    def _run_group(
        self,
        inputs: Features,
        items: ItemVectors,
        non_sequence: tf.Tensor,
        lengths: tf.Tensor,
        training: bool,
        shared_history: bool,
        packed: PackedGroup | None = None,
    ) -> HistoryResults:
        """Pads the rows of one group to the longest of them and runs the backbone."""
        longest = tf.reduce_max(tf.concat([lengths, tf.ones([1], lengths.dtype)], axis=0))
        padding = tf.shape(items.rows)[0] - 1
        aligned = [right_align(ragged, longest, padding=padding) for ragged in items.events]
        events = self._item_vector(tf.gather(items.rows, tf.stack(aligned, axis=-1)))
        mask = record_mask(lengths, longest, packed)
        if packed is not None:
            lengths = tf.reshape(packed.end - packed.start, [-1])
        norm = tf.zeros_like(lengths)
        if self.config.embedding_l2:
            norm = masked_mean(_squared_norm(events)[..., tf.newaxis], mask)[:, 0]
        history = events
        if self.action_fusion is not None:
            actions = right_align(inputs[features.HISTORY_ACTION], longest)
            history = self.action_fusion(events, actions)
        sequence = SequenceInputs.of_one_history(
            target=items.target,
            history=history,
            mask=mask,
            length=lengths,
            non_sequence=non_sequence,
            items=events,
        )
        if self.plan.second_actions:
            of_second = tf.reduce_any(
                actions[..., tf.newaxis] == tf.constant(self.plan.second_actions, actions.dtype),
                axis=-1,
            )
            (first, first_mask), (second, second_mask) = (
                keep_events(history, mask, wanted) for wanted in (~of_second, of_second)
            )
            sequence = sequence._replace(
                history=first, mask=first_mask, second=second, second_mask=second_mask
            )
        if shared_history and packed is None:
            norm = repeat_for_candidates(norm, items.target)
        return HistoryResults(
            interest=self.backbone(sequence, training=training, shared_history=shared_history),
            event_norm=tf.cast(norm, tf.float32),
            auxiliary=self.backbone.auxiliary_logit(sequence) if self._has_auxiliary else None,
        )

    def _item_vector(self, parts: tf.Tensor) -> tf.Tensor:
        """Fuses the embeddings of an item's parts, [..., parts, dim] to [..., item_dim]."""
        if self.config.item_fusion is ItemFusion.SUM:
            return tf.reduce_sum(parts, axis=-2)
        leading = tf.shape(parts)[:-2]
        return tf.reshape(parts, tf.concat([leading, [self.item_dim]], axis=0))

    def _embedding(
        self, names: list[str], vocabulary_sizes: Mapping[str, int], title: str
    ) -> StackedEmbedding | MixedEmbedding:
        config = self.config
        sizes = {name: vocabulary_sizes[name] + FIRST_INDEX for name in names}
        widths = table_widths(config, {name: vocabulary_sizes[name] for name in names})
        if set(widths.values()) == {config.embedding_dim}:
            return StackedEmbedding(
                sizes, config.embedding_dim, config.embedding_init_std, name=title
            )
        return MixedEmbedding(
            sizes, widths, config.embedding_dim, config.embedding_init_std, name=title
        )


def _make_head(config: ModelConfig) -> tf.keras.Sequential:
    """MLP from the joined vectors to a logit, which stays in float32 under mixed precision."""
    layers: list[tf.keras.layers.Layer] = []
    for index, units in enumerate(config.hidden_units):
        layers.append(tf.keras.layers.Dense(units, activation="relu", name=f"hidden_{index}"))
        layers.append(tf.keras.layers.Dropout(config.dropout, name=f"dropout_{index}"))
    layers.append(tf.keras.layers.Dense(1, dtype="float32", name="logit"))
    return tf.keras.Sequential(layers, name="head")


def _squared_norm(values: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(tf.square(tf.cast(values, tf.float32)), axis=-1)
