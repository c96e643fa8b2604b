"""SequenceProfile: what the training split says about lengths and densities, as JSON."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

PROFILE_FILE = "sequence_profile.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class SequenceProfile:
    """Statistics of the training split that models and slices are set by.

    Attributes:
        examples: training examples read.
        max_length: the maximum history length that the examples were cut to, in events.
        length_mean: mean of ``history_length`` in events (LAIN's L0).
        length_std: standard deviation of ``history_length`` in events, at least 1e-6.
        length_quantiles: history length at each quantile, keyed "0.5", "0.9", ...
        total_length_quantiles: the same for ``history_length_total``.
        items: distinct target items.
        samples_per_item: training examples divided by distinct target items, which LENS's
            condition source follows.
        proposed_length_edges: lower bounds of length buckets of about equal share.
        proposed_density_edges: the same for ``item_train_count``.
        length_bucket_shares: share of training examples by configured length bucket.
        density_bucket_shares: share of training examples by configured density bucket.
        label_mean: share of positive labels.
    """

    examples: int
    max_length: int
    length_mean: float
    length_std: float
    length_quantiles: dict[str, float]
    total_length_quantiles: dict[str, float]
    items: int
    samples_per_item: float
    proposed_length_edges: list[int]
    proposed_density_edges: list[int]
    length_bucket_shares: dict[str, float]
    density_bucket_shares: dict[str, float]
    label_mean: float

    def to_json(self) -> str:
        """Returns the profile as indented JSON."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> SequenceProfile:
        """Reads what :meth:`to_json` wrote.

        Raises:
            ValueError: keys are missing or unknown; the message names them.
        """
        values: dict[str, Any] = json.loads(text)
        names = {field.name for field in dataclasses.fields(cls)}
        if set(values) != names:
            missing, unknown = sorted(names - set(values)), sorted(set(values) - names)
            raise ValueError(f"sequence profile: missing keys {missing}, unknown keys {unknown}")
        return cls(**values)

    @classmethod
    def read(cls, path: Path | str) -> SequenceProfile:
        """Reads the profile at ``path``."""
        return cls.from_json(Path(path).read_text(encoding="utf-8"))
