"""Embedding tables of different widths that give rows of one width."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from models.embeddings import StackedEmbedding, UniqueRows


class MixedEmbedding(tf.keras.layers.Layer):
    """Mixed-dimension embeddings (arXiv 1909.11810), the vocabularies of one width stacked.

    A row of width d_k is projected to the common width d by a matrix of all vocabularies of this
    width::

        row = table_k[id] P_k        P_k [d_k, d], none where d_k = d

    so that what reads the rows does not depend on the widths, and a vocabulary of few or rare
    entries costs fewer weights. There is a gather and a sparse update for each width, and only
    the distinct rows of a batch are projected.

    Args:
        sizes: rows of each vocabulary, by name.
        widths: width of the embeddings of each, at most ``dim``.
        dim: width of what is returned.
        init_std: standard deviation of the normal that weights of the tables start from; the
            projections keep it.

    Inputs:
        ids by call of :meth:`unique_rows`.
    """

    def __init__(
        self,
        sizes: Mapping[str, int],
        widths: Mapping[str, int],
        dim: int,
        init_std: float,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.sizes = dict(sizes)
        self.widths = dict(widths)
        self.dim = dim
        self.init_std = init_std
        # By width as text: the places of the weights then say what they are.
        self.stacks: dict[str, StackedEmbedding] = {}
        self.projections: dict[str, tf.Variable] = {}
        for width in sorted({self.widths[name] for name in self.sizes}, reverse=True):
            members = {name: size for name, size in self.sizes.items() if widths[name] == width}
            title = f"{self.name}_{width}"
            self.stacks[str(width)] = StackedEmbedding(members, width, init_std, name=title)
            if width != dim:
                self.projections[str(width)] = self.add_weight(
                    name=f"projection_{width}",
                    shape=(width, dim),
                    initializer=tf.keras.initializers.RandomNormal(stddev=width**-0.5),
                )

    def unique_rows(self, ids: Sequence[tuple[str, tf.Tensor]]) -> UniqueRows:
        """Looks up ids; see :meth:`StackedEmbedding.unique_rows`."""
        rows: list[tf.Tensor] = []
        positions: dict[int, tf.Tensor] = {}
        first = tf.constant(0)
        for width, stack in self.stacks.items():
            own = [number for number, (name, _) in enumerate(ids) if name in stack.sizes]
            if not own:
                continue
            read = stack.unique_rows([ids[number] for number in own])
            found = read.rows[:-1]
            if width in self.projections:
                found = tf.matmul(found, tf.cast(self.projections[width], found.dtype))
            rows.append(found)
            for number, place in zip(own, read.positions, strict=True):
                positions[number] = place + first
            first += tf.shape(found)[0]
        rows.append(tf.zeros([1, self.dim], rows[0].dtype))
        return UniqueRows(
            rows=tf.concat(rows, axis=0),
            positions=[positions[number] for number in range(len(ids))],
        )

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "sizes": self.sizes,
            "widths": self.widths,
            "dim": self.dim,
            "init_std": self.init_std,
        }
