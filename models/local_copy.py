"""A device's own copy of a variable, of which rows can be read without reading all of it."""

from __future__ import annotations

import tensorflow as tf


def local_copy(variable: tf.Variable) -> tf.Variable:
    """Returns what the device at hand holds of a variable.

    A variable that ``tf.distribute`` has mirrored over devices or workers cannot be read by rows:
    ``tf.gather`` first copies the whole table, in every step. Its copies can.

    Args:
        variable: any; without a strategy it is its only copy. Outside of a replica's step and of
            an optimiser's update, where no device is at hand, the first copy stands for all.
    """
    copies = tf.distribute.get_strategy().experimental_local_results(variable)
    try:
        handle = variable.handle
    except ValueError:
        return copies[0]
    return next(copy for copy in copies if copy.handle is handle)
