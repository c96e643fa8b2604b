"""Tests of the attention diagnostics: by hand, against the layers, and on every backbone."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from models.attention_statistics import STATISTICS, concentration, entropy, gini, summary
from models.capabilities import CAPABILITIES, Backbone
from models.config import ModelConfig
from models.diagnostics import Diagnostics, attention_names, recorded
from models.inputs import transformed_spec
from models.layers import target_attention
from models.plan import make_plan
from models.ranker import Ranker
from schemas import features
from schemas.loading import build
from tests.models import fixtures
from tests.models.profiles import make_profile

LENGTHS = [0, 1, 3, 8, 8, 5]


def make_ranker(backbone: str, **model: Any) -> Ranker:
    config = build(
        ModelConfig,
        {
            "backbone": backbone,
            "embedding_dim": 4,
            "hidden_units": [8],
            "length_groups": 1,
            "embedding_init_std": 1.0,
            "hyformer": {"queries": 3, "dim": 8, "layers": 2, "heads": 2},
            "mixformer": {"heads": 2, "dim": 4, "layers": 2},
            "onetrans": {"dim": 8, "layers": 2, "heads": 2, "side_tokens": 2},
            "long_history": {"attention_dim": 4, "heads": 2, "short_length": 4, "retrieved": 5},
            **model,
        },
        where="model",
    )
    description = fixtures.make_description()
    plan = make_plan(description, config, "typed_exposure", fixtures.MAX_LENGTH)
    sizes = dict.fromkeys(plan.vocabularies, 20)
    tf.keras.utils.set_random_seed(1)
    ranker = Ranker(
        plan,
        config,
        sizes,
        global_batch_size=len(LENGTHS),
        profile=make_profile(max_length=fixtures.MAX_LENGTH),
    )
    ranker(make_batch(ranker), training=False)
    return ranker


def make_batch(ranker: Ranker) -> dict[str, Any]:
    """Rows with the histories of ``LENGTHS``."""
    random = np.random.default_rng(0)
    rows = len(LENGTHS)
    batch: dict[str, Any] = {}
    for name, form in transformed_spec(ranker.plan).items():
        if isinstance(form, tf.io.RaggedFeature):
            top = 3 if name == features.HISTORY_ACTION else 20
            values = tf.constant(random.integers(1, top, sum(LENGTHS)), tf.int64)
            batch[name] = tf.RaggedTensor.from_row_lengths(values, LENGTHS)
        elif form.dtype.is_floating:
            batch[name] = tf.constant(random.normal(size=[rows, *form.shape]), form.dtype)
        else:
            batch[name] = tf.constant(random.integers(1, 20, [rows, *form.shape]), form.dtype)
    return batch


def diagnose(ranker: Ranker) -> dict[str, Any]:
    found = Diagnostics(ranker.config)
    length = np.array(["0" if n == 0 else "1-4" if n < 5 else "5+" for n in LENGTHS])
    density = np.array(["0-9", "0-9", "10+", "10+", "10+", "10+"])
    found.add(ranker, make_batch(ranker), length, density)
    return found.result(["0", "1-4", "5+"], ["0-9", "10+"])


def test_gini_by_hand() -> None:
    weights = np.array([[0.0, 0.25, 0.25, 0.5], [0.7, 0.1, 0.1, 0.1], [0.0, 0.0, 0.0, 1.0]])
    real = np.array([[False, True, True, True], [True] * 4, [True] * 4])
    # (2 i - n - 1) x_i over n sum x, in ascending order.
    expected = [
        (-2 * 0.25 + 0 * 0.25 + 2 * 0.5) / 3,
        (-3 * 0.1 - 1 * 0.1 + 1 * 0.1 + 3 * 0.7) / 4,
        3 / 4,
    ]
    np.testing.assert_allclose(gini(weights, real), expected)


def test_gini_does_not_see_scale_order_or_what_is_masked() -> None:
    random = np.random.default_rng(0)
    weights = random.random((20, 7))
    real = random.random((20, 7)) < 0.7
    real[:, 0] = True
    value = gini(weights, real)
    np.testing.assert_allclose(gini(3 * weights, real), value)
    np.testing.assert_allclose(gini(weights[:, ::-1], real[:, ::-1]), value)
    np.testing.assert_allclose(gini(np.where(real, weights, 9.0), real), value)
    # Half of the mean difference of all pairs, over the mean: another way to write it.
    for row in range(20):
        kept = weights[row][real[row]]
        pairs = np.abs(kept[:, None] - kept[None]).mean() / (2 * kept.mean())
        assert value[row] == pytest.approx(pairs)


def test_entropy_by_hand() -> None:
    weights = np.array([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0], [0.2, 0.2, 0.6]])
    real = np.array([[True, True, False], [True, True, True], [True, True, False]])
    np.testing.assert_allclose(entropy(weights, real), [math.log(2), 0.0, math.log(2)])


def test_no_event_has_no_concentration() -> None:
    weights, real = np.zeros((1, 1, 3)), np.zeros((1, 1, 3), bool)
    assert math.isnan(gini(weights, real)[0, 0])
    assert math.isnan(entropy(weights, real)[0, 0])
    found = summary(concentration(weights, real, 0))
    assert found["rows"] == 1
    assert found["rows_with_events"] == 0
    assert found["gini"] is None


def test_prompts_are_left_out_and_then_reported() -> None:
    weights = np.array([[[0.4, 0.0, 0.3, 0.3]]])
    real = np.array([[[True, False, True, True]]])
    found = dict(zip(STATISTICS, concentration(weights, real, 1)[:, 0, 0], strict=True))
    assert found["gini"] == pytest.approx(0.0)
    assert found["entropy"] == pytest.approx(math.log(2))
    assert found["relative_entropy"] == pytest.approx(1.0)
    assert found["prompt_share"] == pytest.approx(0.4)
    assert found["gini_with_prompts"] == pytest.approx((-2 * 0.3 + 2 * 0.4) / 3)
    one_event = concentration(np.array([[[1.0, 0.0]]]), np.array([[[True, False]]]), 0)[:, 0, 0]
    assert dict(zip(STATISTICS, one_event, strict=True))["relative_entropy"] == 1.0


def test_din_reports_what_its_layer_says() -> None:
    ranker = make_ranker("din")
    seen: list[Any] = []
    backbone = ranker.backbone
    assert backbone is not None
    original = backbone.call

    def call(inputs: Any, **kwargs: Any) -> Any:
        seen.append(inputs)
        return original(inputs, **kwargs)

    backbone.call = call
    found = diagnose(ranker)["attention"]["attention"]
    weights = backbone.attention(seen[0]).numpy()
    expected = [gini(weights[row, -n:], np.ones(n, bool)) for row, n in enumerate(LENGTHS) if n > 4]
    assert found["5+"]["gini"] == pytest.approx(np.mean(expected), rel=1e-5)
    assert found["5+"]["rows"] == 3
    assert found["0"] == {"rows": 1, "rows_with_events": 0} | dict.fromkeys(STATISTICS) | {
        "prompt_share": 0.0
    }


@pytest.mark.parametrize("backbone", [b.value for b in Backbone])
def test_every_backbone_can_be_diagnosed(backbone: str) -> None:
    offers = CAPABILITIES[Backbone(backbone)]
    model: dict[str, Any] = {"lain": {"prompts": 2}} if offers.short_branch else {}
    if offers.queries:
        model |= {"position": "query_specific", "lens": {}}
    ranker = make_ranker(backbone, **model)
    before = ranker(make_batch(ranker), training=False).numpy()
    found = diagnose(ranker)
    modules = {
        "none": [],
        "pooled": [],
        "sdim": ["short"],
        **{name: ["short", "long"] for name in ("sim", "eta", "twin")},
        **{name: ["layer_0", "layer_1"] for name in ("hyformer", "mixformer", "onetrans")},
    }.get(backbone, ["attention"])
    assert list(found["attention"]) == modules
    for buckets in found["attention"].values():
        assert [buckets[name]["rows"] for name in ("0", "1-4", "5+")] == [1, 2, 3]
        assert buckets["0"]["gini"] is None
        assert 0 <= buckets["5+"]["gini"] < 1
        assert 0 < buckets["5+"]["relative_entropy"] <= 1
        # Prompts are all that a row without events can attend to, but for OneTrans's tokens.
        share = buckets["0"]["prompt_share"]
        assert share == pytest.approx(1.0) if backbone != "onetrans" else 0 < share < 1
        assert buckets["5+"]["prompt_share"] < share
    queries = {"hyformer": 3, "mixformer": 2, "onetrans": 3}.get(backbone)
    assert set(found["gate"]) == ({"0-9", "10+"} if queries else set())
    for curves in (found["position_curves"], found["target_position_curves"]):
        assert set(curves) == ({"layer_0", "layer_1"} if queries else set())
        for curve in curves.values():
            assert np.shape(curve) == (queries, fixtures.MAX_LENGTH)
            np.testing.assert_array_equal(curve, 0.0)  # LENS starts at zero
    for bucket in found["gate"].values():
        assert (bucket["mean"], bucket["deviation"]) == (1.0, 0.0)
    # Watching leaves nothing behind.
    np.testing.assert_array_equal(ranker(make_batch(ranker), training=False).numpy(), before)
    with recorded() as records:
        pass
    assert records == []


def test_the_gate_and_the_curves_are_those_of_the_weights() -> None:
    ranker = make_ranker("hyformer", position="query_specific", lens={"source": "item"})
    assert ranker.backbone is not None
    positions = ranker.backbone.positions
    random = np.random.default_rng(1)
    for weight in (
        positions.gate.project.kernel,
        *(layer.project.kernel for layer in positions.target_biases),
        *(layer.table for layer in positions.position_biases),
    ):
        weight.assign(random.normal(size=weight.shape))
    found = diagnose(ranker)
    parts = [part.name for part in ranker.plan.item_parts]
    rows, indices = ranker.item_embedding.unique_rows(
        [(name, make_batch(ranker)[name]) for name in parts]
    )
    target = tf.concat([tf.gather(rows, index) for index in indices], axis=-1)
    gate = 2 / (1 + np.exp(-target.numpy() @ positions.gate.project.kernel.numpy()))
    assert found["gate"]["0-9"]["mean"] == pytest.approx(gate[:2].mean(), rel=1e-5)
    assert found["gate"]["10+"]["distance_from_one"] == pytest.approx(
        np.abs(gate[2:] - 1).mean(), rel=1e-5
    )
    table = positions.position_biases[1].table.numpy()
    np.testing.assert_allclose(found["position_curves"]["layer_1"], table.T, atol=1e-6)
    bias = positions.target_biases[0]
    multipliers = (target.numpy() @ bias.project.kernel.numpy()).reshape(len(LENGTHS), 3, -1)
    curves = np.einsum("bqr,lr->ql", multipliers, bias.table.numpy()) / len(LENGTHS)
    np.testing.assert_allclose(found["target_position_curves"]["layer_0"], curves, atol=1e-5)


def test_each_of_two_histories_has_its_own_figures() -> None:
    ranker = make_ranker(
        "hyformer",
        position="query_specific",
        lens={},
        second_history=["click"],
        hyformer={"queries": 4, "dim": 8, "layers": 2, "heads": 2},
    )
    found = diagnose(ranker)
    names = ["layer_0", "layer_0_second", "layer_1", "layer_1_second"]
    for part in ("attention", "position_curves", "target_position_curves"):
        assert list(found[part]) == names
    assert ranker.backbone is not None
    table = ranker.backbone.positions.position_biases[1].table
    table.assign(np.ones(table.shape))
    curves = diagnose(ranker)["position_curves"]
    assert {name for name in names if np.any(curves[name])} == {"layer_0_second"}


def test_temperatures_fall_with_length() -> None:
    found = diagnose(make_ranker("twin", lain={}))["temperature"]
    assert set(found) == {"short_attention", "long_attention"}
    for curve in found.values():
        assert len(curve) == fixtures.MAX_LENGTH + 1
        assert np.all(np.diff(curve) < 0)


def test_names_of_one_branch_only() -> None:
    assert attention_names(build(ModelConfig, {"backbone": "sdim"}, where="model"), 1) == ["short"]


def test_the_softmax_is_itself_again_after_an_error() -> None:
    original = target_attention.masked_softmax

    def fail() -> None:
        with recorded():
            assert target_attention.masked_softmax is not original
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert target_attention.masked_softmax is original
