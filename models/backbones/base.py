"""What every backbone gets and gives."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf


class SequenceInputs(NamedTuple):
    """Inputs of a backbone: rows that are independent of each other.

    With several candidates for each user, ``target`` and ``non_sequence`` have a multiple of the
    other tensors' rows, the candidates of a user in consecutive rows, and the call says so by
    ``shared_history``. The result is that of repeated histories, but what depends on the history
    alone is computed once, in an order that pays with many candidates. In packed training each
    candidate is an impression of its own time: ``mask`` and ``items_mask`` are then windows, bool
    [users, candidates, length], and ``length`` has a row a candidate. A backbone reads them if
    :func:`models.packing.reads_windows` says so.

    Attributes:
        target: item vector of the candidate, [rows, dim].
        history: item vectors of the events, with their action types fused in, right-aligned,
            the last one the most recent, [rows, length, dim].
        mask: true where there is an event, bool [rows, length].
        length: events, of both histories together, [rows].
        non_sequence: embeddings and numbers of all other fields, [rows, fields_dim].
        items: vectors of all events without their action types, which is what LENS averages,
            [rows, items, dim].
        items_mask: true where there is one, bool [rows, items].
        second: a second history like the first, [rows, second_length, dim]; of no columns where
            there is one history only.
        second_mask: true where there is an event, bool [rows, second_length].
    """

    target: tf.Tensor
    history: tf.Tensor
    mask: tf.Tensor
    length: tf.Tensor
    non_sequence: tf.Tensor
    items: tf.Tensor
    items_mask: tf.Tensor
    second: tf.Tensor
    second_mask: tf.Tensor

    @classmethod
    def of_one_history(
        cls,
        *,
        target: tf.Tensor,
        history: tf.Tensor,
        mask: tf.Tensor,
        length: tf.Tensor,
        non_sequence: tf.Tensor,
        items: tf.Tensor,
    ) -> SequenceInputs:
        """Makes inputs without a second history; ``items`` belong to the events of the first."""
        return cls(
            target=target,
            history=history,
            mask=mask,
            length=length,
            non_sequence=non_sequence,
            items=items,
            items_mask=mask,
            second=history[:, :0],
            second_mask=mask[..., :0],
        )
