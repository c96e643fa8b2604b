"""A SequenceProfile for the tests."""

from __future__ import annotations

from typing import Any

from schemas.profile import SequenceProfile


def make_profile(**changes: Any) -> SequenceProfile:
    """A profile of short histories and rare items; ``changes`` replace its fields."""
    values: dict[str, Any] = {
        "examples": 100,
        "max_length": 20,
        "length_mean": 4.0,
        "length_std": 3.0,
        "length_quantiles": {"0.5": 3.0},
        "total_length_quantiles": {"0.5": 3.0},
        "items": 50,
        "samples_per_item": 2.0,
        "proposed_length_edges": [1],
        "proposed_density_edges": [1],
        "length_bucket_shares": {"0": 1.0},
        "density_bucket_shares": {"0": 1.0},
        "label_mean": 0.3,
    }
    return SequenceProfile(**{**values, **changes})
