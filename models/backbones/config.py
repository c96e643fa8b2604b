"""Options of the backbones, free of TensorFlow."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any

from models.layers.config import (
    ConditionKind,
    LengthInput,
    LengthModulation,
    MixingKind,
    SpectralLengthEncoderConfig,
)
from schemas.loading import STRICT


class Position(str, enum.Enum):
    """How a latent-query backbone knows where in the history an event stands."""

    NONE = "none"
    GLOBAL = "global"
    ABSOLUTE = "absolute"
    QUERY_SPECIFIC = "query_specific"


@dataclass(frozen=True, kw_only=True)
class LainOptions:
    """What of LAIN (arXiv 2601.19142) is on; the defaults are the paper's, or fill its gaps.

    With no prompts, no conditioning and no temperature, the model is exactly its backbone.

    Attributes:
        prompts: length-conditioned prompts before the history, 0 for none.
        query_key_conditioning: the length vector joins queries and keys.
        temperature: attention logits are divided by a temperature that falls with length.
        short_branch: adapts the branch of recent events, or the only one.
        long_branch: adapts the branch that retrieves from the whole history, where there is one.
        length_dim: width of the length vector.
        length_input: form in which a length enters the encoder.
        frequencies: learned frequencies of the encoder.
        dropout: share of the encoder's hidden units that is dropped in training.
        initial_slope: slope of the temperature at the mean length, over one deviation.
        initial_range: the temperature starts between 1 and 1 plus this.
    """

    __pydantic_config__ = STRICT

    prompts: int = 4
    query_key_conditioning: bool = True
    temperature: bool = True
    short_branch: bool = True
    long_branch: bool = True
    length_dim: int = 64
    length_input: LengthInput = LengthInput.RAW
    frequencies: int = 32
    dropout: float = 0.2
    initial_slope: float = 1.0
    initial_range: float = 0.5

    def __post_init__(self) -> None:
        object.__setattr__(self, "length_input", LengthInput(self.length_input))
        if self.prompts < 0:
            raise ValueError(f"prompts {self.prompts}: 0 and above is accepted")
        for name in ("length_dim", "frequencies"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)}: at least 1 is accepted")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout {self.dropout}: 0 to below 1 is accepted")
        for name in ("initial_slope", "initial_range"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} {getattr(self, name)}: above 0 is accepted")


@dataclass(frozen=True, kw_only=True)
class LengthAdaptation(LainOptions):
    """LAIN on a backbone, for histories of a known length distribution.

    Attributes:
        max_length: longest history, in events.
        mean_length: mean history length of the training split, in events.
        length_deviation: standard deviation of the same, in events.
    """

    __pydantic_config__ = STRICT

    max_length: int
    mean_length: float
    length_deviation: float

    @property
    def modulation(self) -> LengthModulation | None:
        """What attention layers need to know, None if nothing of it is on."""
        if not self.query_key_conditioning and not self.temperature:
            return None
        return LengthModulation(
            query_key_conditioning=self.query_key_conditioning,
            temperature=self.temperature,
            mean_length=self.mean_length,
            length_deviation=self.length_deviation,
            initial_slope=self.initial_slope,
            initial_range=self.initial_range,
            length_dim=self.length_dim,
        )

    @property
    def encoder(self) -> SpectralLengthEncoderConfig:
        """Options of the length encoder."""
        return SpectralLengthEncoderConfig(
            max_length=self.max_length,
            dim=self.length_dim,
            frequencies=self.frequencies,
            length_input=self.length_input,
            dropout=self.dropout,
        )


@dataclass(frozen=True, kw_only=True)
class LensOptions:
    """What of LENS's target conditioning (arXiv 2605.25583) is on; the defaults are the paper's.

    Attributes:
        query_gate: the target gates the initial queries.
        position_bias: the target bends the position curves.
        rank: rank of that bending.
        source: what the target-conditioned parts see; ``auto`` follows the training samples
            for each item.
        crossover: samples per item above which ``auto`` finds the item enough.
    """

    __pydantic_config__ = STRICT

    query_gate: bool = True
    position_bias: bool = True
    rank: int = 8
    source: ConditionKind = ConditionKind.AUTO
    crossover: float = 50.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "source", ConditionKind(self.source))
        if self.rank < 1:
            raise ValueError(f"rank {self.rank}: at least 1 is accepted")


@dataclass(frozen=True, kw_only=True)
class TargetConditioning(LensOptions):
    """Positions and LENS on a latent-query backbone.

    Attributes:
        max_length: longest history, in events; prompts are not counted.
        position: position mechanism.
        samples_per_item: training samples over vocabulary size, for source ``auto``.
    """

    __pydantic_config__ = STRICT

    query_gate: bool = False
    position_bias: bool = False
    max_length: int
    position: Position = Position.NONE
    samples_per_item: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "position", Position(self.position))


@dataclass(frozen=True, kw_only=True)
class HyformerOptions:
    """Options of the HyFormer backbone (arXiv 2601.12681, as used by LENS).

    Attributes:
        queries: latent queries.
        dim: width of a query.
        layers: blocks.
        heads: attention heads.
        sequence_pooling: the mean of the history enters query generation.
        side_tokens: tokens of side fields in the mixing, 0 for queries only.
        per_query_feed_forward: weights of their own for each token after the mixing.
        mixing: how tokens are mixed.
        encode_sequence: a SwiGLU network over the events in each block.
        dropout: share of the entries dropped before each residual sum.
    """

    __pydantic_config__ = STRICT

    queries: int = 16
    dim: int = 64
    layers: int = 4
    heads: int = 4
    sequence_pooling: bool = True
    side_tokens: int = 0
    per_query_feed_forward: bool = False
    mixing: MixingKind = MixingKind.SHUFFLE
    encode_sequence: bool = False
    dropout: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "mixing", MixingKind(self.mixing))
        _check_sizes(self, "queries", "dim", "layers", "heads")
        _check_heads(self.heads, self.dim)
        tokens = self.queries + self.side_tokens
        if self.mixing is MixingKind.SHUFFLE and tokens > self.dim:
            raise ValueError(
                f"queries {self.queries} and side_tokens {self.side_tokens}: a shuffle mixes at "
                f"most dim {self.dim} tokens; mixing: mlp takes more"
            )


@dataclass(frozen=True, kw_only=True)
class MixformerOptions:
    """Options of the MixFormer backbone (arXiv 2602.14110).

    Attributes:
        heads: feature heads, which are also the queries.
        dim: width of a head; heads must divide it.
        layers: blocks.
        chained: each block reads the history as the one before left it; else as it came.
        dropout: share of the entries dropped before each residual sum.
    """

    __pydantic_config__ = STRICT

    heads: int = 4
    dim: int = 16
    layers: int = 4
    chained: bool = True
    dropout: float = 0.0

    def __post_init__(self) -> None:
        _check_sizes(self, "heads", "dim", "layers")
        _check_heads(self.heads, self.dim)


@dataclass(frozen=True, kw_only=True)
class OneTransOptions:
    """Options of the OneTrans backbone (arXiv 2510.26104; defaults as in LENS).

    Attributes:
        dim: width of a token.
        layers: blocks.
        heads: attention heads.
        side_tokens: tokens that side fields are split into, beside the target's own.
        causal: events see earlier events only.
        dropout: share of the entries dropped before each residual sum.
    """

    __pydantic_config__ = STRICT

    dim: int = 64
    layers: int = 4
    heads: int = 4
    side_tokens: int = 8
    causal: bool = False
    dropout: float = 0.0

    def __post_init__(self) -> None:
        _check_sizes(self, "dim", "layers", "heads", "side_tokens")
        _check_heads(self.heads, self.dim)


@dataclass(frozen=True, kw_only=True)
class LongHistoryOptions:
    """Options of SIM, ETA, SDIM and TWIN.

    Attributes:
        attention_dim: width of all attention heads together.
        heads: attention heads.
        short_length: most recent events that the short branch reads.
        retrieved: events that the long branch keeps (not SDIM).
        search_dim: width of SIM's search product.
        auxiliary_units: hidden widths of SIM's auxiliary prediction.
        hash_bits: bits of a hash; null: 32 for ETA's one hash, 4 for each of SDIM's.
        hashes: number of hashes of SDIM.
        normalize: SDIM divides each bucket's sum by its norm.
        seed: seed of the fixed hash projections.
    """

    __pydantic_config__ = STRICT

    attention_dim: int = 64
    heads: int = 4
    short_length: int = 50
    retrieved: int = 50
    search_dim: int = 64
    auxiliary_units: tuple[int, ...] = (64,)
    hash_bits: int | None = None
    hashes: int = 2
    normalize: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "auxiliary_units", tuple(self.auxiliary_units))
        _check_sizes(
            self, "attention_dim", "heads", "short_length", "retrieved", "search_dim", "hashes"
        )
        if self.hash_bits is not None:
            _check_sizes(self, "hash_bits")
        if self.seed < 0:
            raise ValueError(f"seed {self.seed}: at least 0 is accepted")
        if self.auxiliary_units and min(self.auxiliary_units) < 1:
            raise ValueError(
                f"auxiliary_units {list(self.auxiliary_units)}: widths from 1 expected"
            )
        if self.attention_dim % self.heads:
            raise ValueError(
                f"heads {self.heads}: a divisor of attention_dim {self.attention_dim} expected"
            )


def _check_sizes(options: Any, *names: str) -> None:
    for name in names:
        if getattr(options, name) < 1:
            raise ValueError(f"{name} {getattr(options, name)}: at least 1 is accepted")
    if getattr(options, "side_tokens", 0) < 0:
        raise ValueError(f"side_tokens {options.side_tokens}: 0 and above is accepted")
    if not 0 <= getattr(options, "dropout", 0.0) < 1:
        raise ValueError(f"dropout {options.dropout}: 0 to below 1 is accepted")


def _check_heads(heads: int, dim: int) -> None:
    if dim % heads:
        raise ValueError(f"heads {heads}: a divisor of dim {dim} expected")
