"""Configuration of the examples job, free of Beam and TensorFlow."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from schemas import features
from schemas.dataset_sections import Split
from schemas.loading import STRICT

# A longer list in one example is a mistake in the configuration.
MAX_HISTORY = 100_000

# A record should stay far below a batch, which holds whole records.
MAX_PACKED = 1_000


class HistoryProtocol(enum.StrEnum):
    """Which earlier events a history keeps (LENS, arXiv 2605.25583, KuaiRand protocols)."""

    POSITIVE_ONLY = "positive_only"
    CLICK_ONLY = "click_only"
    ALL_EXPOSURE = "all_exposure"
    TYPED_EXPOSURE = "typed_exposure"


class Freshness(enum.StrEnum):
    """How recent the events are that an impression sees."""

    IMPRESSION = "impression"
    DAY = "day"


@dataclass(frozen=True, kw_only=True)
class HistoryConfig:
    """What a history is made of.

    Attributes:
        protocol: ``positive_only`` keeps events whose action type is positive, ``click_only``
            those with label 1, the exposure protocols all of them; only ``typed_exposure``
            lets a model see the action types.
        max_length: events kept, the most recent ones; filtered first, then cut.
        freshness: ``impression`` lets a history hold all events before the impression, ``day``
            those before the local day of the impression, as where histories are brought up to
            date once a night.
    """

    __pydantic_config__ = STRICT

    protocol: HistoryProtocol = HistoryProtocol.TYPED_EXPOSURE
    max_length: int = 100
    freshness: Freshness = Freshness.IMPRESSION

    def __post_init__(self) -> None:
        if not 1 <= self.max_length <= MAX_HISTORY:
            raise ValueError(f"max_length {self.max_length}: 1 to {MAX_HISTORY} is accepted")


@dataclass(frozen=True, kw_only=True)
class GenerateConfig:
    """Size of the simulated log that is made when the data folder has none.

    Attributes:
        impressions: rows of the log.
        seed: seed of the generator.
    """

    __pydantic_config__ = STRICT

    impressions: int = 200_000
    seed: int = 1

    def __post_init__(self) -> None:
        if self.impressions < 1_000:
            raise ValueError(f"impressions {self.impressions}: at least 1000 is accepted")
        if self.seed < 0:
            raise ValueError(f"seed {self.seed}: at least 0 is accepted")


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """The ``data`` section of a run.

    Attributes:
        dataset: name of a shipped description, or the path of one.
        path: folder of the raw files.
        generate: makes the simulated log in ``path`` if it is not there (dataset simulated).
        snapshot: history snapshot to start from: ``none``, ``latest`` (the newest under
            ``run.root``) or a path.
        earlier_examples: example sets of earlier runs that are trained on as well, newest
            first; with a snapshot, whose chain they are found by.
        history: what a history is made of.
        split: split by time; the description's if not given.
        allow_empty: splits that may be empty.
        length_edges: lower bounds, in events, of the length buckets but the first.
        density_edges: lower bounds, in training samples, of the density buckets but the first.
        pack_impressions: consecutive impressions of a user, in time, that a transformed example
            of the training and validation splits holds at most; they share their history events.
            0 for an example an impression.
        shards: files a split is written in; the examples do not depend on it.
        max_rejected_share: largest share of unusable rows, and of values of a wrong type in a
            column of the log or a side file, from 0 to 1.
        schema: curated TensorFlow Metadata schema (pbtxt); the shipped one of the dataset if
            not given.
    """

    __pydantic_config__ = STRICT

    dataset: str
    path: str
    generate: GenerateConfig | None = None
    snapshot: str = "none"
    earlier_examples: int = 0
    history: HistoryConfig = field(default_factory=HistoryConfig)
    split: Split | None = None
    allow_empty: tuple[str, ...] = ()
    length_edges: tuple[int, ...] = (1, 5, 10, 20, 50, 100)
    density_edges: tuple[int, ...] = (1, 5, 20, 50, 200)
    pack_impressions: int = 0
    shards: int = 8
    max_rejected_share: float = 0.01
    schema: str | None = None

    def __post_init__(self) -> None:
        for name in ("length_edges", "density_edges"):
            edges = getattr(self, name)
            if any(edge < 1 for edge in edges) or list(edges) != sorted(set(edges)):
                raise ValueError(f"{name} {list(edges)}: increasing whole numbers from 1 expected")
        if not 0 <= self.pack_impressions <= MAX_PACKED:
            raise ValueError(
                f"pack_impressions {self.pack_impressions}: 0 to {MAX_PACKED} is accepted"
            )
        if not 1 <= self.shards <= 10_000:
            raise ValueError(f"shards {self.shards}: 1 to 10000 is accepted")
        if not 0 <= self.max_rejected_share <= 1:
            raise ValueError(f"max_rejected_share {self.max_rejected_share}: 0 to 1 is accepted")
        if self.earlier_examples < 0:
            raise ValueError(f"earlier_examples {self.earlier_examples}: at least 0 is accepted")
        if self.earlier_examples and self.snapshot == "none":
            raise ValueError("earlier_examples: they are found by a snapshot, but snapshot is none")
        unknown = sorted(set(self.allow_empty) - set(features.SPLITS))
        if unknown:
            raise ValueError(f"allow_empty {unknown}: {list(features.SPLITS)} are accepted")
        if self.generate is not None and self.dataset != "simulated":
            raise ValueError("generate: only for dataset simulated")
