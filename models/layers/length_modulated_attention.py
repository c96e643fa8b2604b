"""Length-modulated attention of LAIN."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from tensorflow import keras

from models.layers.candidates import repeat_for_candidates
from models.layers.config import LengthModulation, conditioning_dim, plain, read_modulation
from models.layers.length_temperature import make_temperature
from models.layers.sublayers import build_sublayer, require_argument
from models.layers.target_attention import EncodedHistory, TargetAttention


@keras.utils.register_keras_serializable(package="lengthwise")
class LengthModulatedAttention(TargetAttention):
    """Target attention whose queries and sharpness follow the length of the history.

    Formula, for each head::

        q' = [Q ; e] W_q'        k' = [S ; e] W_k'        v = S W_v
        weights_j = softmax_j((q' . k'_j / sqrt(head_dim) + bias_j) / tau)

    ``e`` is the length vector and ``tau`` a ``LengthTemperature``, shared by heads. The columns
    for ``e`` start at zero. Those of W_k' add the same number ``q' . (e U_k)`` to every logit of
    a row, which the softmax takes away again, so they are left out; the result is the formula's
    whatever their value. With both switches off this is ``TargetAttention``.

    Args:
        attention_dim: int, width of all heads together.
        heads: int, must divide ``attention_dim``; default 1.
        modulation: ``LengthModulation`` or None (both switches off).
        history_dim: int or None, width of an event; as wide as a query if None.
        output_dim: int or None, width of the result; as wide as a query if None.

    Call arguments:
        query, history, event_mask, bias: as of ``TargetAttention``; no windows with temperature.
            Prompts are prepended to the history beforehand (``prepend_prompts``); a shorter bias
            leaves them at 0.
        length: ``[batch]``, events in the user's history, prompts not counted; with temperature.
        length_vector: ``[batch, length_dim]``; with query-key conditioning.

    Returns:
        ``[batch * candidates, queries, output_dim]``.

    Padding has weight exactly 0. A row of length 0 reads from its prompts if there are any and
    else gives zeros.

    Example:

    >>> modulation = LengthModulation(mean_length=50.0, length_deviation=20.0, length_dim=4)
    >>> attention = LengthModulatedAttention(8, heads=2, modulation=modulation)
    >>> history, real, length = tf.ones([2, 5, 6]), tf.ones([2, 5], tf.bool), tf.constant([5, 5])
    >>> attention(tf.ones([2, 1, 6]), history, real, None, length, tf.ones([2, 4])).shape
    TensorShape([2, 1, 6])

    Reference: LAIN, arXiv 2601.19142.
    """

    def __init__(
        self,
        attention_dim: int,
        heads: int = 1,
        *,
        modulation: LengthModulation | None = None,
        history_dim: int | None = None,
        output_dim: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            attention_dim, heads, history_dim=history_dim, output_dim=output_dim, **kwargs
        )
        self.modulation = read_modulation(modulation)
        self.length_dim = conditioning_dim(self.modulation)
        self.temperature = make_temperature(self.modulation)

    def build(self, input_shape: Any) -> None:
        """Makes the projections, the added columns of W_q and the temperature's scalars."""
        if self.length_dim:
            self.length_kernel = self.add_weight(
                name="length_kernel",
                shape=(self.length_dim, self.attention_dim),
                initializer="zeros",
            )
        if self.temperature is not None:
            build_sublayer(self.temperature, (None,))
        super().build(input_shape)

    def call(
        self,
        query: tf.Tensor,
        history: tf.Tensor | EncodedHistory,
        event_mask: tf.Tensor,
        bias: tf.Tensor | None = None,
        length: tf.Tensor | None = None,
        length_vector: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Returns what the queries read from the history."""
        projected = self._condition(self.project_query(query), length_vector)
        return self._attend(projected, history, event_mask, bias, length)

    def attention_weights(
        self,
        query: tf.Tensor,
        history: tf.Tensor | EncodedHistory,
        event_mask: tf.Tensor,
        bias: tf.Tensor | None = None,
        length: tf.Tensor | None = None,
        length_vector: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Returns the weights ``[batch, heads, candidates * queries, length]``, for diagnosis."""
        projected = self._condition(self.project_query(query), length_vector)
        return self._weights(projected, history, event_mask, bias, length)

    def attend_to_chosen(
        self,
        query: tf.Tensor,
        history: EncodedHistory,
        positions: tf.Tensor,
        real: tf.Tensor,
        length: tf.Tensor | None = None,
        length_vector: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Returns what each candidate reads from events of its own, ``[rows, output_dim]``.

        Args:
            query: ``[batch * candidates, dim]``, the candidates of a user in consecutive rows.
            history: keys and values of all slots, of ``encode_history``.
            positions: slots that a candidate reads, ``[batch * candidates, count]``.
            real: whether there is anything to read, bool ``[batch * candidates, count]``.
            length: ``[batch]``; with temperature.
            length_vector: ``[batch, length_dim]``; with query-key conditioning.
        """
        projected = self._condition(self.project_query(query[:, None]), length_vector)[:, 0]
        return self._attend_to_chosen(projected, history, positions, real, length)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor arguments."""
        return {**super().get_config(), "modulation": plain(self.modulation)}

    def _condition(self, projected: tf.Tensor, length_vector: tf.Tensor | None) -> tf.Tensor:
        if not self.length_dim:
            return projected
        require_argument(self.name, "length_vector", length_vector, "query_key_conditioning")
        vector = self._cast(length_vector)
        shift = tf.matmul(vector, self._cast(self.length_kernel)) / self.head_dim**0.5
        return projected + repeat_for_candidates(shift, projected)[:, None]
