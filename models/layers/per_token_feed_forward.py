"""A feed-forward network with weights of its own for each token."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from tensorflow import keras

from models.layers.config import FeedForwardKind
from models.layers.sublayers import require_at_least

_ACTIVATIONS = {
    FeedForwardKind.GELU: tf.nn.gelu,
    FeedForwardKind.RELU: tf.nn.relu,
    FeedForwardKind.SILU: tf.nn.silu,
}


@keras.utils.register_keras_serializable(package="lengthwise")
class PerTokenFeedForward(keras.layers.Layer):
    """Applies a two-layer network to each token, by default with separate weights for each.

    Formula, for token i::

        gelu, relu, silu:  y_i = act(x_i A_i + a_i) B_i + b_i
        swiglu:            y_i = (silu(x_i G_i) * (x_i A_i)) B_i            no biases

    No residual connection and no normalisation: those are the block's.

    Args:
        hidden_ratio: int, hidden width over token width, default 4.
        kind: ``FeedForwardKind``, default ``gelu``.
        shared: bool, one set of weights for all tokens; then their number may vary.

    Call arguments:
        tokens: ``[batch, tokens, dim]``.

    Returns:
        ``[batch, tokens, dim]``.

    There is no mask: with ``shared`` on a padded history, padding is transformed like an event,
    and whoever reads the result has to mask it.

    Example:

    >>> PerTokenFeedForward(hidden_ratio=2)(tf.zeros([2, 3, 8])).shape
    TensorShape([2, 3, 8])

    Reference: HyFormer, arXiv 2601.12681; SwiGLU as in MixFormer, arXiv 2602.14110.
    """

    def __init__(
        self,
        hidden_ratio: int = 4,
        kind: FeedForwardKind | str = FeedForwardKind.GELU,
        *,
        shared: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        require_at_least("hidden_ratio", hidden_ratio, 1)
        self.hidden_ratio = hidden_ratio
        self.kind = FeedForwardKind(kind)
        self.shared = shared

    def build(self, input_shape: Any) -> None:
        """Makes the kernels ``[tokens, in, out]``, or ``[in, out]`` if shared."""
        dim = int(input_shape[-1])
        hidden = self.hidden_ratio * dim
        groups = () if self.shared else (int(input_shape[-2]),)
        self.expand_kernel = self._kernel("expand_kernel", groups, dim, hidden)
        self.contract_kernel = self._kernel("contract_kernel", groups, hidden, dim)
        if self.kind is FeedForwardKind.SWIGLU:
            self.gate_kernel = self._kernel("gate_kernel", groups, dim, hidden)
        else:
            self.expand_bias = self.add_weight(
                name="expand_bias", shape=(*groups, hidden), initializer="zeros"
            )
            self.contract_bias = self.add_weight(
                name="contract_bias", shape=(*groups, dim), initializer="zeros"
            )
        super().build(input_shape)

    def call(self, tokens: tf.Tensor) -> tf.Tensor:
        """Returns the transformed tokens."""
        if not self.shared:
            return self._transform(tokens)
        # One product of all tokens, which takes less time than one of each row's few.
        flat = self._transform(tf.reshape(tokens, [-1, tokens.shape[-1]]))
        return tf.reshape(flat, tf.shape(tokens))

    def _transform(self, tokens: tf.Tensor) -> tf.Tensor:
        """Transforms ``[batch, tokens, dim]``, or ``[tokens, dim]`` where weights are shared."""
        hidden = self._product(tokens, self.expand_kernel)
        if self.kind is FeedForwardKind.SWIGLU:
            hidden *= tf.nn.silu(self._product(tokens, self.gate_kernel))
            return self._product(hidden, self.contract_kernel)
        hidden = _ACTIVATIONS[self.kind](self._shift(hidden, self.expand_bias))
        return self._shift(self._product(hidden, self.contract_kernel), self.contract_bias)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor arguments."""
        return {
            **super().get_config(),
            "hidden_ratio": self.hidden_ratio,
            "kind": self.kind.value,
            "shared": self.shared,
        }

    def _product(self, tokens: tf.Tensor, kernel: Any) -> tf.Tensor:
        kernel = tf.cast(kernel, tokens.dtype)
        if self.shared:
            return tf.matmul(tokens, kernel)
        return tf.einsum("bti,tio->bto", tokens, kernel)

    def _shift(self, values: tf.Tensor, bias: Any) -> tf.Tensor:
        bias = tf.cast(bias, values.dtype)
        # Of all tokens alike it joins the product before it.
        return tf.nn.bias_add(values, bias) if self.shared else values + bias

    def _kernel(self, name: str, groups: tuple[int, ...], rows: int, columns: int) -> Any:
        return self.add_weight(
            name=name,
            shape=(*groups, rows, columns),
            initializer=keras.initializers.RandomUniform(
                -((6 / (rows + columns)) ** 0.5), (6 / (rows + columns)) ** 0.5
            ),
        )
