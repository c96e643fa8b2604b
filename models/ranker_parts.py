"""What the parts of the ranker hand to each other."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf


class ItemVectors(NamedTuple):
    """Embedded items of a batch.

    Attributes:
        target: item vectors of the candidates, [rows, dim].
        rows: embedding rows that the histories read, the last one being padding.
        events: positions in ``rows``, ragged [users, None] for each part of the item vector.
    """

    target: tf.Tensor
    rows: tf.Tensor
    events: list[tf.RaggedTensor]


class HistoryResults(NamedTuple):
    """What the history part gives for each row.

    Attributes:
        interest: what the head reads, [rows, interest_dim].
        event_norm: mean squared norm of the events' embeddings, or 0 if no one asks, [rows].
        auxiliary: logit of the backbone's own click prediction, float32 [rows], or None.
    """

    interest: tf.Tensor
    event_norm: tf.Tensor
    auxiliary: tf.Tensor | None
