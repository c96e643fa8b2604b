"""End-to-end Target Attention by hash retrieval."""

from __future__ import annotations

from typing import Any

from tensorflow import keras

from models.backbones.searching import SearchingBackbone
from models.layers.simhash import SimHash

DEFAULT_HASH_BITS = 32


@keras.utils.register_keras_serializable(package="lengthwise")
class EtaBackbone(SearchingBackbone):
    """Long branch: attention to the events whose hash is nearest to the target's.

    The hash (arXiv 2108.04468) is of the event vectors, with a fixed projection, so that an
    export retrieves the same events. LAIN's prompts stand before the retrieved events.

    Args, inputs and output: see :class:`~models.backbones.long_history.LongHistoryBackbone`.
    """

    def build(self, input_shape: Any) -> None:
        """Makes the hash."""
        self.search = SimHash(
            self.options.retrieved,
            self.options.hash_bits or DEFAULT_HASH_BITS,
            self.options.seed,
            name="search",
        )
        super().build(input_shape)
