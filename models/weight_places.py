"""Names for the weights of a ranker that do not depend on when a layer was made."""

from __future__ import annotations

from typing import Any

import tensorflow as tf


def weights_by_place(ranker: tf.keras.Model) -> dict[str, tf.Variable]:
    """Returns all weights by the attributes that lead to them, by the shortest way."""
    wanted = {weight.ref() for weight in ranker.weights}
    view = tf.train.TrackableView(ranker)
    found: dict[str, tf.Variable] = {}
    seen = {id(ranker)}
    level: list[tuple[str, Any]] = [("", ranker)]
    while level:
        below = []
        for place, parent in level:
            for name, child in sorted(view.children(parent).items()):
                if id(child) in seen:
                    continue
                seen.add(id(child))
                child_place = f"{place}/{name}" if place else name
                if isinstance(child, tf.Variable) and child.ref() in wanted:
                    found[child_place] = child
                below.append((child_place, child))
        level = below
    return found
