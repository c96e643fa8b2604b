"""Model sections that between them take every value of every axis, small enough to test."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from models.capabilities import CAPABILITIES, Backbone
from models.config import ModelConfig
from schemas.loading import build

Section = dict[str, Any]

SMALL: Section = {
    "embedding_dim": 4,
    "hidden_units": [8],
    "length_groups": 2,
    "embedding_init_std": 0.5,
    "attention_units": [4],
    "hyformer": {"queries": 4, "dim": 8, "layers": 2, "heads": 2},
    "mixformer": {"heads": 2, "dim": 4, "layers": 2},
    "onetrans": {"dim": 8, "layers": 2, "heads": 2, "side_tokens": 2},
    "long_history": {
        "attention_dim": 8, "heads": 2, "short_length": 3, "retrieved": 4, "search_dim": 4,
        "auxiliary_units": [4], "hash_bits": 3,
    },
}  # fmt: skip

LAIN: Section = {"length_dim": 8, "frequencies": 4, "prompts": 2}
LAIN_SWITCHES: dict[str, Section] = {
    "no_prompts": {**LAIN, "prompts": 0},
    "no_conditioning": {**LAIN, "query_key_conditioning": False},
    "no_temperature": {**LAIN, "temperature": False},
}
LAIN_BRANCHES: dict[str, Section] = {
    "long_only": {**LAIN, "short_branch": False},
    "short_only": {**LAIN, "long_branch": False},
}
POSITIONS = ("none", "global", "absolute", "query_specific")
SOURCES = ("item", "item_and_sequence", "auto")
LENS: dict[str, Section] = {
    "gate": {"query_gate": True, "position_bias": False},
    "bias": {"query_gate": False, "position_bias": True},
    "gate_bias": {},
}

CARRIES_LAIN = [name for name, offers in CAPABILITIES.items() if offers.short_branch]
LATENT = [name for name, offers in CAPABILITIES.items() if offers.queries]


def config_of(section: Section) -> ModelConfig:
    """Reads a section as a run would."""
    return build(ModelConfig, {**SMALL, **section}, where="model")


def adapted() -> dict[str, Section]:
    """One section for each value of each axis, but for bare backbones, fusions and inputs."""
    members: dict[str, Section] = {}
    for backbone in CARRIES_LAIN:
        members[f"{backbone.value}-lain"] = {"backbone": backbone.value, "lain": LAIN}
    for backbone in LATENT:
        members[f"{backbone.value}-lain-lens"] = {
            "backbone": backbone.value, "position": "query_specific", "lens": {"rank": 2},
            "lain": LAIN,
        }  # fmt: skip
    switches = {"din": "no_prompts", "dien": "no_conditioning", "twin": "no_temperature"}
    for name, switch in switches.items():
        members[f"{name}-{switch}"] = {"backbone": name, "lain": LAIN_SWITCHES[switch]}
    for name, branch in itertools.product(("sim", "sdim"), LAIN_BRANCHES):
        members[f"{name}-{branch}"] = {"backbone": name, "lain": LAIN_BRANCHES[branch]}
    for position in POSITIONS[1:]:
        members[f"hyformer-{position}"] = {"backbone": "hyformer", "position": position}
    for part, source in zip(LENS, SOURCES, strict=True):
        members[f"mixformer-{part}-{source}"] = {
            "backbone": "mixformer", "lens": {**LENS[part], "rank": 2, "source": source},
        }  # fmt: skip
    return members


def one_of_each() -> dict[str, Section]:
    """Few sections that between them take every value of every axis."""
    return {
        "none": {"backbone": "none"},
        "pooled": {"backbone": "pooled", "item_fusion": "sum"},
        "din": {
            "backbone": "din", "attention_activation": "dice", "attention_batch_norm": True,
            "length_groups": 1, "action_fusion": "concat",
        },
        "din-no_prompts": {"backbone": "din", "lain": LAIN_SWITCHES["no_prompts"]},
        "dien": {"backbone": "dien", "lain": LAIN_SWITCHES["no_conditioning"]},
        "sim": {
            "backbone": "sim", "lain": LAIN_SWITCHES["no_temperature"], "action_fusion": "none",
        },
        "eta": {"backbone": "eta", "lain": LAIN_BRANCHES["long_only"]},
        "sdim": {
            "backbone": "sdim", "lain": LAIN_BRANCHES["short_only"], "inputs": "controlled",
        },
        "twin": {"backbone": "twin", "lain": LAIN},
        "hyformer": {
            "backbone": "hyformer", "position": "global", "second_history": ["click"],
            "lens": {**LENS["gate"], "source": "item"},
        },
        "mixformer": {
            "backbone": "mixformer", "position": "absolute",
            "lens": {**LENS["bias"], "source": "item_and_sequence", "rank": 2},
        },
        "onetrans": {
            "backbone": "onetrans", "position": "query_specific", "lens": {"rank": 2},
            "lain": LAIN,
        },
    }  # fmt: skip


def product(backbone: Backbone) -> Iterator[tuple[str, Section]]:
    """All sections of a backbone: positions, target conditioning and length adaptation."""
    lain: dict[str, Section | None] = {"": None}
    if backbone in CARRIES_LAIN:
        lain |= {"lain": LAIN, **LAIN_SWITCHES}
    if CAPABILITIES[backbone].long_branch:
        lain |= LAIN_BRANCHES
    positions, lens = ["none"], {"": None}
    if backbone in LATENT:
        positions = list(POSITIONS)
        lens |= {
            f"{part}-{source}": {**LENS[part], "rank": 2, "source": source}
            for part, source in itertools.product(LENS, SOURCES[:2])
        }
    for position, (lens_name, lens_part), (lain_name, lain_part) in itertools.product(
        positions, lens.items(), lain.items()
    ):
        section = {"backbone": backbone.value, "lens": lens_part, "lain": lain_part}
        if backbone in LATENT:
            section["position"] = position
        yield "-".join((backbone.value, position, lens_name, lain_name)), section
