"""DIN's activation unit: how relevant each event of a history is to the target item."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
from tensorflow import keras

from models.layers.candidates import chunk_sizes, group_by_user, repeat_for_candidates, ungroup
from models.layers.candidates import in_chunks as candidates_in_chunks
from models.layers.config import AttentionActivation
from models.layers.dice import Dice
from models.layers.masked_batch_normalization import MaskedBatchNormalization
from models.layers.sublayers import build_sublayer


@keras.utils.register_keras_serializable(package="lengthwise")
class DinActivationUnit(keras.layers.Layer):
    """Scores each event against the target with a small network.

    With target t and event s (arXiv 1706.06978, section 4.3, and with the difference that
    public implementations add)::

        logit = MLP([t, s, t - s, t * s])

    The first layer is computed without forming the concatenation, nor the product of target and
    events. With its weights cut in four, W1 to W4::

        W [t, s, t - s, t * s] = (W1 + W3) t + s ((W2 - W3) + diag(t) W4)

    It is exact: a matrix of its own for each target, by which each event is multiplied once. With
    one hidden layer and PReLU, which is ``alpha x + (1 - alpha) relu(x)``, the part that is linear
    in the event is another such product, so that of a hidden layer only ``relu(x)`` is formed.

    Args:
        hidden_units: widths of the hidden layers, each followed by the activation.
        activation: ``prelu``, or ``dice``, whose bend follows the statistics of its inputs.
        batch_norm: whether each hidden layer is normalised before its activation.

    Call arguments:
        target: ``[rows, dim]``.
        events: ``[users, length, dim]``, of the same width; rows ``users`` or ``users *
            candidates``, the candidates of a user in consecutive rows. Padding is scored like any
            event: masking the logits is left to the caller.
        event_mask: bool ``[rows, length]``, which events count in the statistics of Dice and
            batch normalisation; None: all.
        training: bool, whether these are the statistics of the call.
        key_kernel: None, or ``[dim, dim]``: ``events @ key_kernel + key_shift`` is scored, without
            being formed.
        key_shift: ``[users, dim]``, given with ``key_kernel``.
        in_chunks: bool, whether a few candidates are scored at a time, for many of them and
            without ``key_kernel``.

    Returns:
        Logits ``[rows, length]``; length may be 0.

    Example:

    >>> unit = DinActivationUnit(hidden_units=(64,))
    >>> unit(tf.ones([2, 8]), tf.ones([2, 5, 8])).shape
    TensorShape([2, 5])
    """

    def __init__(
        self,
        hidden_units: Sequence[int] = (64,),
        activation: AttentionActivation | str = AttentionActivation.PRELU,
        batch_norm: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.hidden_units = tuple(hidden_units)
        self.activation = AttentionActivation(activation)
        self.batch_norm = batch_norm
        if not self.hidden_units or min(self.hidden_units) < 1:
            raise ValueError(f"hidden_units {list(hidden_units)}: one or more widths expected")
        layers, policy = range(len(self.hidden_units)), self.dtype_policy
        self.normalizations = [
            MaskedBatchNormalization(name=f"batch_norm_{index}") for index in layers if batch_norm
        ]
        self.activations = [
            Dice(name=f"dice_{index}", dtype=policy)
            if self.activation is AttentionActivation.DICE
            else keras.layers.PReLU(
                alpha_initializer=keras.initializers.Constant(0.25),
                shared_axes=[1],
                name=f"prelu_{index}",
                dtype=policy,
            )
            for index in layers
        ]
        self.later_layers = [
            keras.layers.Dense(units, name=f"dense_{index + 1}", dtype=policy)
            for index, units in enumerate((*self.hidden_units[1:], 1))
        ]

    @property
    def has_statistics(self) -> bool:
        """Whether a training step takes statistics over all events of the call."""
        return self.batch_norm or self.activation is AttentionActivation.DICE

    def build(self, input_shape: Any) -> None:
        """Makes the weights; ``input_shape`` is that of the target."""
        dim = int(input_shape[-1])
        units = self.hidden_units[0]
        # One matrix, so that it starts like the plain form's; rows of t, s, t - s, t * s.
        self.kernel = self.add_weight(
            name="kernel", shape=(4 * dim, units), initializer="glorot_uniform", trainable=True
        )
        self.bias = self.add_weight(
            name="bias", shape=(units,), initializer="zeros", trainable=True
        )
        widths = self.hidden_units
        for layers in (self.activations, self.later_layers, self.normalizations):
            for width, layer in zip(widths, layers, strict=False):
                build_sublayer(layer, (None, None, width))
        super().build(input_shape)

    def call(
        self,
        target: tf.Tensor,
        events: tf.Tensor,
        event_mask: tf.Tensor | None = None,
        training: bool | None = None,
        key_kernel: tf.Tensor | None = None,
        key_shift: tf.Tensor | None = None,
        in_chunks: bool = False,
    ) -> tf.Tensor:
        """Scores events against the target; see the class."""
        # Keras 2 casts the first argument of a call only.
        target, events, kernel, bias = (
            tf.cast(tensor, self.compute_dtype)
            for tensor in (target, events, self.kernel, self.bias)
        )
        of_target, of_event, of_difference, of_product = tf.split(kernel, 4, axis=0)  # [dim, units]
        by_target = tf.matmul(target, of_target + of_difference) + bias
        of_event -= of_difference
        if key_kernel is not None:
            shift = repeat_for_candidates(tf.cast(key_shift, target.dtype), target)
            by_target += tf.matmul(shift, of_event) + tf.matmul(shift * target, of_product)
            of_event, of_product = _fold(tf.cast(key_kernel, target.dtype), of_event, of_product)
        users = tf.shape(events)[0]
        target, by_target = (group_by_user(part, users) for part in (target, by_target))
        if self._bends_once:
            bend = self._bend_in_chunks if in_chunks else self._bend
            return ungroup(bend(events, target, by_target, of_event, of_product))

        def score(own: tf.Tensor, by_target: tf.Tensor) -> tf.Tensor:
            """[users, some, ...] to logits [users, some, length]."""
            own_kernel = _own_kernels(own, of_event, of_product)  # [users, some, dim, units]
            hidden = by_target[:, :, tf.newaxis] + tf.matmul(tf.expand_dims(events, 1), own_kernel)
            logits = self._finish(ungroup(hidden), event_mask, training)
            return tf.reshape(logits, tf.shape(hidden)[:3])

        if not in_chunks:
            return ungroup(score(target, by_target))
        numbers = users * tf.shape(events)[1] * self.hidden_units[0]
        sides = [target, by_target]
        return ungroup(candidates_in_chunks(score, sides, numbers, events.shape[1]))

    @property
    def _bends_once(self) -> bool:
        is_prelu = self.activation is AttentionActivation.PRELU
        return is_prelu and not self.batch_norm and len(self.hidden_units) == 1

    def _columns(self, dtype: tf.DType) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Returns what x and relu(x) of the only hidden layer are multiplied by, and the bias."""
        last = self.later_layers[0]
        weights, bias, alpha = (
            tf.cast(part, dtype) for part in (last.kernel, last.bias, self.activations[0].alpha)
        )
        linear = alpha[0][:, tf.newaxis] * weights  # [units, 1]
        return linear, weights - linear, bias

    def _bend(
        self,
        events: tf.Tensor,
        target: tf.Tensor,
        by_target: tf.Tensor,
        of_event: tf.Tensor,
        of_product: tf.Tensor,
    ) -> tf.Tensor:
        """Returns logits [users, candidates, length] where one PReLU is all that is bent."""
        linear, bent, bias = self._columns(events.dtype)
        own_kernel = _own_kernels(target, of_event, of_product)
        # The gradient of events[:, tf.newaxis] would copy all events.
        hidden = tf.matmul(tf.expand_dims(events, 1), own_kernel) + by_target[:, :, tf.newaxis]
        by_event = _by_event(events, target, of_event, of_product, linear)
        constant = _apply(by_target, linear) + bias
        return by_event + constant[..., tf.newaxis] + _apply(tf.nn.relu(hidden), bent)

    def _bend_in_chunks(
        self,
        events: tf.Tensor,
        target: tf.Tensor,
        by_target: tf.Tensor,
        of_event: tf.Tensor,
        of_product: tf.Tensor,
    ) -> tf.Tensor:
        """The same for a few candidates of one user at a time, as one product with their matrices.

        Its bias and ReLU are then done by the product itself.
        """
        linear, bent, bias = self._columns(events.dtype)
        dim, units = of_event.shape

        def of_user(parts: tuple[tf.Tensor, ...]) -> tf.Tensor:
            own_events, own_target, own_bias = parts  # [length, dim], [candidates, dim or units]
            length, candidates = tf.shape(own_events)[0], tf.shape(own_target)[0]
            chunks, size = chunk_sizes(candidates, length * units)

            def cut(values: tf.Tensor) -> tf.Tensor:
                filled = tf.pad(values, [[0, chunks * size - candidates], [0, 0]])
                return tf.reshape(filled, [chunks, size, values.shape[-1]])

            def score(chunk: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
                some, some_bias = chunk  # [dim, size], [size, units]
                scaled = some[..., tf.newaxis] * of_product[:, tf.newaxis]
                kernel = tf.reshape(of_event[:, tf.newaxis] + scaled, [dim, -1])
                product = tf.matmul(own_events, kernel)  # [length, size * units]
                hidden = tf.nn.relu(tf.nn.bias_add(product, tf.reshape(some_bias, [-1])))
                return _apply(tf.reshape(hidden, [length, size, units]), bent)

            scores = tf.map_fn(
                score,
                (tf.transpose(cut(own_target), [0, 2, 1]), cut(own_bias)),
                fn_output_signature=tf.TensorSpec([None, None], own_events.dtype),
            )  # [chunks, length, size]
            return tf.reshape(tf.transpose(scores, [0, 2, 1]), [-1, length])[:candidates]

        def of_users() -> tf.Tensor:
            shape = tf.TensorSpec([None, events.shape[1]], events.dtype)
            return tf.map_fn(of_user, (events, target, by_target), fn_output_signature=shape)

        # Without users the sizes of what map_fn stacks are unknown, which it refuses; and a product
        # of no columns with a bias ends the process, in oneDNN.
        nothing = tf.zeros(
            [tf.shape(target)[0], tf.shape(target)[1], tf.shape(events)[1]], events.dtype
        )
        by_relu = tf.cond(tf.size(nothing) > 0, of_users, lambda: nothing)
        by_event = _by_event(events, target, of_event, of_product, linear)
        constant = _apply(by_target, linear) + bias
        return by_event + constant[..., tf.newaxis] + by_relu

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "hidden_units": list(self.hidden_units),
            "activation": self.activation.value,
            "batch_norm": self.batch_norm,
        }

    def _finish(
        self, hidden: tf.Tensor, event_mask: tf.Tensor | None, training: bool | None
    ) -> tf.Tensor:
        """Returns logits [rows, length] from the first hidden layer [rows, length, units]."""
        for index, dense in enumerate(self.later_layers):
            hidden = dense(self._activate(index, hidden, event_mask, training))
        return tf.squeeze(hidden, axis=-1)

    def _activate(
        self, index: int, hidden: tf.Tensor, event_mask: tf.Tensor | None, training: bool | None
    ) -> tf.Tensor:
        """Applies normalisation and activation of a hidden layer, [rows, length, units]."""
        statistics = {"event_mask": event_mask, "training": training}
        if self.batch_norm:
            hidden = tf.cast(self.normalizations[index](hidden, **statistics), hidden.dtype)
        if self.activation is AttentionActivation.DICE:
            return self.activations[index](hidden, **statistics)
        return self.activations[index](hidden)


def _apply(values: tf.Tensor, column: tf.Tensor) -> tf.Tensor:
    """Returns ``values [..., units] @ column [units, 1]``, [...]."""
    flat = tf.matmul(tf.reshape(values, [-1, values.shape[-1]]), column)
    return tf.reshape(flat, tf.shape(values)[:-1])


def _by_event(
    events: tf.Tensor,
    target: tf.Tensor,
    of_event: tf.Tensor,
    of_product: tf.Tensor,
    linear: tf.Tensor,
) -> tf.Tensor:
    """Returns the part of the logits that no bend touches, [users, candidates, length].

    The column is multiplied before the target, so that no matrix of a target is read for it.

    Args:
        events: [users, length, dim].
        target: [users, candidates, dim].
        of_event: see :func:`_own_kernels`.
        of_product: see :func:`_own_kernels`.
        linear: [units, 1].
    """
    column = _apply(of_product, linear)  # [dim], or [target dim, dim] of a folded projection
    scaled = target * column if column.shape.rank == 1 else tf.tensordot(target, column, axes=1)
    return tf.matmul(_apply(of_event, linear) + scaled, events, transpose_b=True)


def _own_kernels(target: tf.Tensor, of_event: tf.Tensor, of_product: tf.Tensor) -> tf.Tensor:
    """Returns what each target multiplies events by, [..., dim, units].

    Args:
        target: [..., dim].
        of_event: [dim, units].
        of_product: [dim, units], rows to be scaled by the target; or of :func:`_fold`.
    """
    if of_product.shape.rank == 2:
        return of_event + target[..., tf.newaxis] * of_product
    units = of_event.shape[-1]
    flat = tf.matmul(
        tf.reshape(target, [-1, target.shape[-1]]), tf.reshape(of_product, [target.shape[-1], -1])
    )
    flat = tf.nn.bias_add(flat, tf.reshape(of_event, [-1]))
    return tf.reshape(flat, tf.concat([tf.shape(target), [units]], axis=0))


def _fold(
    key_kernel: tf.Tensor, of_event: tf.Tensor, of_product: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Folds a projection of the events into what they are multiplied by.

    Returns:
        ``of_event`` [dim, units], and ``of_product`` [target dim, dim, units], whose sum over the
        target's numbers is ``key_kernel diag(target) of_product``.
    """
    products = tf.transpose(key_kernel)[:, :, tf.newaxis] * of_product[:, tf.newaxis]
    return tf.matmul(key_kernel, of_event), products
