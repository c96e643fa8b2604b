"""Which axes of a model go together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.backbones.config import Position
from models.capabilities import CAPABILITIES, Backbone, backbones_with

if TYPE_CHECKING:
    from models.config import ModelConfig

# A bucket for each of 2^bits hashes.
MAX_BUCKET_BITS = 16


def check_axes(config: ModelConfig) -> None:
    """Refuses an axis that the backbone cannot carry.

    Raises:
        ValueError: names the axis, the backbone and what is accepted.
    """
    offers, backbone = CAPABILITIES[config.backbone], f"backbone {config.backbone.value!r}"
    for axis, is_on in (
        ("position", config.position is not Position.NONE),
        ("lens", config.lens is not None),
    ):
        if is_on and not offers.queries:
            raise ValueError(
                f"{axis}: {backbone} has no queries that read the history; "
                f"{', '.join(backbones_with('queries'))} are accepted"
            )
    if config.second_history and config.backbone is not Backbone.HYFORMER:
        raise ValueError(
            f"second_history {list(config.second_history)}: {backbone} reads one history; "
            "hyformer is accepted"
        )
    if config.second_history and config.hyformer.queries % 2:
        raise ValueError(
            f"hyformer.queries {config.hyformer.queries}: two histories share them, so an even "
            "number is accepted"
        )
    if config.backbone is Backbone.SDIM and (config.long_history.hash_bits or 1) > MAX_BUCKET_BITS:
        raise ValueError(
            f"long_history.hash_bits {config.long_history.hash_bits}: sdim keeps a bucket for "
            f"each hash; 1 to {MAX_BUCKET_BITS} is accepted"
        )
    if config.lain is None:
        return
    if not offers.short_branch:
        raise ValueError(
            f"lain: {backbone} has no attention to adapt; "
            f"{', '.join(backbones_with('short_branch'))} are accepted"
        )
    if config.lain.short_branch:
        return
    if not (offers.long_branch and config.lain.long_branch):
        raise ValueError(
            f"lain.short_branch false: {backbone} would have no branch left to adapt; "
            f"long_branch: true with one of {', '.join(backbones_with('long_branch'))} "
            "is accepted"
        )
    if not offers.long_softmax and not config.lain.prompts:
        raise ValueError(
            f"lain.prompts 0 with the long branch alone: that of {backbone} has no softmax, so "
            "only prompts can act there; prompts from 1 on are accepted"
        )
