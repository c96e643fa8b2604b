"""The attention scores of DIEN."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from tensorflow import keras

from models.layers.candidates import group_by_user, repeat_for_candidates, ungroup
from models.layers.config import LengthModulation, conditioning_dim, plain, read_modulation
from models.layers.length_temperature import divide_by_temperature, make_temperature
from models.layers.masking import masked_softmax
from models.layers.sublayers import build_sublayer, require_argument


@keras.utils.register_keras_serializable(package="lengthwise")
class BilinearAttention(keras.layers.Layer):
    """Weighs the states of a history by a bilinear product with the target.

    Formula::

        a_j = softmax_j((h_j W) . t / tau)

    W starts as the identity (with ones on the diagonal if it is not square). With a
    ``LengthModulation`` the query is ``t W^T + e U``, U starting at zero, and tau is a
    ``LengthTemperature``; else tau is 1. The length columns of the keys add the same number to all
    logits of a row, which the softmax takes away, and are left out.

    Args:
        state_dim: int, width of a state.
        modulation: ``LengthModulation`` or None.

    Call arguments:
        target: ``[rows, dim]``, rows ``batch`` or ``batch * candidates``, the candidates of a user
            in consecutive rows.
        states: ``[batch, length, state_dim]``.
        event_mask: ``[batch, length]``, true at real events and prompts.
        length: ``[batch]``, events in the user's history; with temperature.
        length_vector: ``[batch, length_dim]``; with query-key conditioning.

    Returns:
        weights ``[rows, length]`` float32.

    Padding has weight exactly 0; a row of length 0 has no weight at all.

    Example:

    >>> layer = BilinearAttention(state_dim=8)
    >>> layer(tf.ones([2, 8]), tf.ones([2, 4, 8]), tf.ones([2, 4], tf.bool))[0].numpy().tolist()
    [0.25, 0.25, 0.25, 0.25]

    Reference: DIEN, arXiv 1809.03672; modulation: LAIN, arXiv 2601.19142.
    """

    def __init__(
        self, state_dim: int, modulation: LengthModulation | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.state_dim = state_dim
        self.modulation = read_modulation(modulation)
        self.length_dim = conditioning_dim(self.modulation)
        self.temperature = make_temperature(self.modulation)

    def build(self, input_shape: Any) -> None:
        """Makes W, U and the temperature's scalars."""
        self.kernel = self.add_weight(
            name="kernel", shape=(self.state_dim, input_shape[-1]), initializer="identity"
        )
        if self.length_dim:
            self.length_kernel = self.add_weight(
                name="length_kernel",
                shape=(self.length_dim, self.state_dim),
                initializer="zeros",
            )
        if self.temperature is not None:
            build_sublayer(self.temperature, (None,))
        super().build(input_shape)

    def call(
        self,
        target: tf.Tensor,
        states: tf.Tensor,
        event_mask: tf.Tensor,
        length: tf.Tensor | None = None,
        length_vector: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Returns the weights of the states."""
        target, states = (tf.cast(part, self.compute_dtype) for part in (target, states))
        query = tf.matmul(target, tf.cast(self.kernel, target.dtype), transpose_b=True)
        if self.length_dim:
            require_argument(self.name, "length_vector", length_vector, "query_key_conditioning")
            vector = tf.cast(length_vector, target.dtype)
            shift = tf.matmul(vector, tf.cast(self.length_kernel, target.dtype))
            query += repeat_for_candidates(shift, query)
        grouped = group_by_user(query, tf.shape(states)[0])
        logits = tf.matmul(grouped, states, transpose_b=True)
        logits = divide_by_temperature(logits, self.temperature, length, self.name)
        return ungroup(masked_softmax(logits, tf.cast(event_mask, tf.bool)[:, None]))

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor arguments."""
        return {
            **super().get_config(),
            "state_dim": self.state_dim,
            "modulation": plain(self.modulation),
        }
