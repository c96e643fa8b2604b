"""What the attention of a trained ranker does: concentration, position curves, query gate.

The weights come from running the ranker eagerly under :func:`recorded`, which watches the softmax
that attention layers share; :mod:`models.attention_statistics` makes figures of them.
"""

from __future__ import annotations

import contextlib
import importlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from models.attention_statistics import concentration, summary
from models.capabilities import CAPABILITIES
from models.config import ModelConfig
from models.layers import masking
from models.layers.length_modulated_attention import LengthModulatedAttention
from models.layers.length_temperature import LengthTemperature
from models.layers.target_attention import TargetAttention
from models.layers.windows import PositionFactors, has_windows
from models.ranker import Ranker

Array = npt.NDArray[Any]

# Modules whose layers weigh history events by the shared softmax, and the first axis of whose
# weights are the rows.
_ATTENTION_MODULES = (
    "models.backbones.din",
    "models.layers.target_attention",
    "models.layers.bilinear_attention",
    "models.layers.topk_attention",
    "models.layers.mixformer_block",
    "models.layers.onetrans_block",
)
# Of these the ordinary call keeps no weights; what gives them is run beside it.
_CALLS = (TargetAttention, LengthModulatedAttention)
_ONETRANS = "models.layers.onetrans_block"
_ONETRANS_TOKEN_RANK = 5  # [users, heads, candidates, tokens, events and tokens]


@dataclass(frozen=True, kw_only=True)
class AttentionRecord:
    """Weights of one attention module for one batch.

    Attributes:
        weights: of prompts, then events, [rows, ways, slots]; heads and queries are the ways.
        real: true at prompts and real events, bool, of the same shape.
    """

    weights: Array
    real: Array


@dataclass
class Diagnostics:
    """Gathers the diagnostics of a ranker over batches.

    Args:
        config: the ``model`` section of the ranker.
    """

    config: ModelConfig
    _rows: dict[tuple[str, str], list[Array]] = field(default_factory=lambda: defaultdict(list))
    _gates: dict[str, list[Array]] = field(default_factory=lambda: defaultdict(list))
    _curves: dict[str, tuple[Array, int]] = field(default_factory=dict)
    _fixed: dict[str, Any] = field(default_factory=dict)

    def add(
        self, ranker: Ranker, batch: Mapping[str, Any], length_bucket: Array, density_bucket: Array
    ) -> None:
        """Runs a batch and takes note of what its attention does.

        Args:
            ranker: trained; its histories should run in one group.
            batch: transformed examples.
            length_bucket: name of each row's length bucket, [rows].
            density_bucket: name of each row's density bucket, [rows].
        """
        with recorded() as records, _recorded_positions(ranker) as (gates, biases):
            ranker(batch, training=False)
        names = attention_names(self.config, len(records))
        for name, record in zip(names, records, strict=True):
            prompts = prompts_before(self.config, name)
            found = concentration(record.weights, record.real, prompts)
            for bucket in np.unique(length_bucket):
                self._rows[name, str(bucket)].append(found[:, :, length_bucket == bucket])
        for gate in (values.numpy() for values in gates):
            for bucket in np.unique(density_bucket):
                self._gates[str(bucket)].append(gate[density_bucket == bucket])
        for layer, bias in biases.items():
            self._add_curves(layer, bias)
        if not self._fixed:
            self._fixed = {
                "position_curves": position_curves(ranker),
                "temperature": temperatures(ranker),
            }

    def result(
        self, length_buckets: Iterable[str], density_buckets: Iterable[str]
    ) -> dict[str, Any]:
        """Returns everything as plain values.

        Args:
            length_buckets: names of the length buckets, in order.
            density_buckets: names of the density buckets, in order.

        Returns:
            ``attention`` by module and length bucket, ``gate`` by density bucket,
            ``position_curves`` and ``target_position_curves`` by layer, [queries][max_length],
            the last position being the most recent, and ``temperature`` by module and length.
        """
        length_buckets = list(length_buckets)
        modules = list(dict.fromkeys(name for name, _ in self._rows))
        return {
            "attention": {
                name: {
                    bucket: summary(np.concatenate(self._rows[name, bucket], axis=2))
                    for bucket in length_buckets
                    if (name, bucket) in self._rows
                }
                for name in modules
            },
            "gate": {
                bucket: _gate_summary(np.concatenate(self._gates[bucket]))
                for bucket in density_buckets
                if bucket in self._gates
            },
            "target_position_curves": {
                layer: _rounded(total / rows) for layer, (total, rows) in self._curves.items()
            },
            **self._fixed,
        }

    def _add_curves(self, layer: str, bias: Array) -> None:
        total, rows = self._curves.get(layer, (np.zeros(bias.shape[1:]), 0))
        self._curves[layer] = (total + bias.sum(axis=0), rows + len(bias))


def attention_names(config: ModelConfig, count: int) -> list[str]:
    """Names the attention modules of a backbone in the order in which they run."""
    offers = CAPABILITIES[config.backbone]
    if offers.long_branch:
        return ["short", "long"][:count]
    if offers.queries:
        return [layer_name(config, index) for index in range(count)]
    return ["attention"][:count]


def layer_name(config: ModelConfig, part: int) -> str:
    """Names an attention of latent queries: of each layer those of all histories, in turn."""
    if not config.second_history:
        return f"layer_{part}"
    layer, is_second = divmod(part, 2)
    return f"layer_{layer}_second" if is_second else f"layer_{layer}"


def prompts_before(config: ModelConfig, name: str) -> int:
    """Returns the prompts that LAIN puts before the events of an attention module."""
    lain = config.lain
    if lain is None:
        return 0
    is_on = lain.long_branch if name == "long" else lain.short_branch
    return lain.prompts if is_on else 0


def position_curves(ranker: Ranker) -> dict[str, Any]:
    """Returns the learned position biases by layer, [queries or 1][max_length]."""
    positions = getattr(ranker.backbone, "positions", None)
    layers = [] if positions is None else positions.position_biases
    return {
        layer_name(ranker.config, index): _rounded(layer.table.numpy().T)
        for index, layer in enumerate(layers)
    }


def temperatures(ranker: Ranker) -> dict[str, list[float]]:
    """Returns LAIN's temperature by attention module, for each length from 0 to the longest."""
    lengths = tf.range(ranker.plan.max_length + 1)
    curves: dict[str, list[float]] = {}
    for layer in ranker.submodules:
        temperature = getattr(layer, "temperature", None)
        if isinstance(temperature, LengthTemperature):
            same = sum(name.startswith(layer.name) for name in curves)
            name = f"{layer.name}_{same}" if same else layer.name
            curves[name] = _rounded(temperature(lengths).numpy())
    return curves


@contextlib.contextmanager
def recorded() -> Iterator[list[AttentionRecord]]:
    """Records the weights of every attention to the history that runs eagerly inside."""
    records: list[AttentionRecord] = []
    modules = [importlib.import_module(name) for name in _ATTENTION_MODULES]
    calls = {layer: layer.call for layer in _CALLS}
    try:
        for module in modules:
            module.masked_softmax = _watching(module.__name__, records)  # type: ignore[attr-defined]
        for layer, call in calls.items():
            layer.call = _with_weights(call)  # type: ignore[method-assign]
        yield records
    finally:
        for module in modules:
            module.masked_softmax = masking.masked_softmax  # type: ignore[attr-defined]
        for layer, call in calls.items():
            layer.call = call  # type: ignore[method-assign]


def _with_weights(call: Callable[..., tf.Tensor]) -> Callable[..., tf.Tensor]:
    def both(
        self: TargetAttention, query: Any, history: Any, event_mask: Any, *args: Any, **kwargs: Any
    ) -> tf.Tensor:
        if not has_windows(event_mask):
            self.attention_weights(query, history, event_mask, *args, **kwargs)
        return call(self, query, history, event_mask, *args, **kwargs)

    return both


def _watching(module: str, records: list[AttentionRecord]) -> Callable[..., tf.Tensor]:
    def masked_softmax(logits: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        weights = masking.masked_softmax(logits, mask)
        real = tf.broadcast_to(mask, tf.shape(weights)).numpy()
        values = weights.numpy()
        if module == _ONETRANS:
            if values.ndim != _ONETRANS_TOKEN_RANK:
                return weights  # events that attend to events
            tokens = values.shape[-2]
            values, real = values[..., :-tokens], real[..., :-tokens]
        shape = (values.shape[0], int(np.prod(values.shape[1:-1])), values.shape[-1])
        records.append(AttentionRecord(weights=values.reshape(shape), real=real.reshape(shape)))
        return weights

    return masked_softmax


@contextlib.contextmanager
def _recorded_positions(ranker: Ranker) -> Iterator[tuple[list[tf.Tensor], dict[str, Array]]]:
    """Records the query gate [rows, queries, dim] and the target's biases by layer."""
    gates: list[tf.Tensor] = []
    biases: dict[str, Array] = {}
    positions = getattr(ranker.backbone, "positions", None)
    with contextlib.ExitStack() as stack:
        if positions is not None:
            if positions.gate is not None:
                stack.enter_context(_watched(positions.gate, "gate", gates.append))
            for index, layer in enumerate(positions.target_biases):
                keep = _keeper(biases, layer_name(ranker.config, index))
                stack.enter_context(_watched(layer, "factors", keep))
        yield gates, biases


def _keeper(biases: dict[str, Array], key: str) -> Callable[[PositionFactors], None]:
    def keep(factors: PositionFactors) -> None:
        """Keeps the biases of all positions, [rows, queries, max_length]."""
        biases[key] = factors.multipliers.numpy() @ factors.table.numpy().T

    return keep


@contextlib.contextmanager
def _watched(layer: Any, method: str, keep: Callable[[Any], None]) -> Iterator[None]:
    """Hands on what a method of one layer returns."""
    original = getattr(layer, method)

    def watching(*args: Any, **kwargs: Any) -> Any:
        value = original(*args, **kwargs)
        keep(value)
        return value

    object.__setattr__(layer, method, watching)
    try:
        yield
    finally:
        object.__delattr__(layer, method)


def _gate_summary(gates: Array) -> dict[str, Any]:
    """Summarises gates [rows, queries, dim]; 1 leaves a query as it is."""
    return {
        "rows": len(gates),
        "mean": float(gates.mean()),
        "deviation": float(gates.std()),
        "distance_from_one": float(np.abs(gates - 1).mean()),
        "mean_by_query": _rounded(gates.mean(axis=(0, 2))),
    }


def _rounded(values: Array) -> Any:
    return np.round(values.astype(np.float64), 6).tolist()
