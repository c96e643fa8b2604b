"""From the configuration to a backbone layer."""

from __future__ import annotations

from tensorflow import keras

from models.backbones.din import DinBackbone
from models.backbones.pooled import PooledBackbone
from models.capabilities import Backbone
from models.config import ModelConfig

CLASSES: dict[Backbone, type[keras.layers.Layer]] = {
    Backbone.POOLED: PooledBackbone,
    Backbone.DIN: DinBackbone,
}


def make_backbone(config: ModelConfig) -> keras.layers.Layer:
    """Makes the backbone that ``config`` names."""
    if config.backbone is Backbone.DIN:
        return DinBackbone(hidden_units=config.attention_units, name="backbone")
    return CLASSES[config.backbone](name="backbone")
