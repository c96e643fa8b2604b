"""Tests that the ``rank`` signature gives the scores of ``serving_default``, for every model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_transform as tft

from models.capabilities import CAPABILITIES, Backbone
from models.export import make_signatures
from models.plan import read_run_config
from models.ranker import Ranker
from models.trainer import make_factory
from schemas.dataset import DatasetDescription
from schemas.dataset_sections import Per
from tests.models import fixtures
from tests.models.profiles import make_profile
from tests.models.rank_requests import (
    FILLER,
    OF_CANDIDATE,
    add_unknown_values,
    by_user,
    expand,
    make_users,
    to_request,
)

SMALL: dict[str, Any] = {
    "embedding_dim": 4,
    "hidden_units": [8],
    "embedding_init_std": 0.5,
    "extra_inputs": ["user_id", "history_length", "history_length_total"],
    "hyformer": {"queries": 4, "dim": 8, "layers": 2, "heads": 2},
    "mixformer": {"heads": 2, "dim": 4, "layers": 2},
    "onetrans": {"dim": 8, "layers": 2, "heads": 2, "side_tokens": 2},
    "long_history": {
        "attention_dim": 8, "heads": 2, "short_length": 3, "retrieved": 4, "search_dim": 4,
        "hash_bits": 3,
    },
}  # fmt: skip
LENS = {"position": "query_specific", "lens": {"source": "item_and_sequence"}}
LAIN = {"lain": {"length_dim": 8}}
QUERIES = ("hyformer", "mixformer", "onetrans")
MODELS: dict[str, dict[str, Any]] = {
    **{backbone.value: {"backbone": backbone.value} for backbone in Backbone},
    **{
        f"{backbone.value} lain": {"backbone": backbone.value, **LAIN}
        for backbone, offers in CAPABILITIES.items()
        if offers.short_branch
    },
    **{f"{name} lens": {"backbone": name, **LENS} for name in QUERIES},
    **{f"{name} both": {"backbone": name, **LENS, **LAIN} for name in QUERIES},
    "hyformer second": {"backbone": "hyformer", "second_history": ["click"], **LENS, **LAIN},
    "onetrans causal": {
        "backbone": "onetrans", "onetrans": {**SMALL["onetrans"], "causal": True}, **LENS,
    },
    "din dice": {
        "backbone": "din", "attention_activation": "dice", "attention_batch_norm": True,
        "length_groups": 1,
    },
    "sdim normalised": {
        "backbone": "sdim", "long_history": {**SMALL["long_history"], "normalize": True}, **LAIN,
    },
    "din concat": {"backbone": "din", "action_fusion": "concat", "item_fusion": "sum"},
    "din no actions": {"backbone": "din", "action_fusion": "none"},
    "hyformer controlled": {"backbone": "hyformer", "inputs": "controlled"},
}  # fmt: skip


class Graph(NamedTuple):
    """The Transform graph of a model that reads everything, and its layer."""

    output: tft.TFTransformOutput
    layer: Any


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Graph:
    """Analysed once: all models read the same features, or some of them."""
    config = fixtures.custom_config(fixtures.make_description(), SMALL)
    folder = tmp_path_factory.mktemp("graph")
    output = fixtures.analyze(folder, fixtures.make_rows(300), config)
    return Graph(output, output.transform_features_layer())


@pytest.fixture
def eager() -> Iterator[None]:
    """Runs signatures without tracing them, which would take most of the time."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


def make_ranker(
    graph: Graph, model: dict[str, Any], description: DatasetDescription | None = None
) -> Ranker:
    """A ranker whose weights are all random, also those that start at zero."""
    description = description or fixtures.make_description()
    config = fixtures.custom_config(description, {**SMALL, **model})
    ranker = make_factory(read_run_config(config), graph.output, make_profile(max_length=8)).make()
    random = np.random.default_rng(0)
    for weight in ranker.trainable_variables:
        noise = random.normal(scale=0.1, size=tuple(weight.shape))
        weight.assign_add(tf.cast(noise, weight.dtype))
    return ranker


def single_and_ranked(graph: Graph, ranker: Ranker) -> tuple[Callable[..., Any], ...]:
    """What gives the scores of ``serving_default`` for examples and of ``rank`` for a request."""
    signatures = make_signatures(ranker, graph.output, graph.layer)
    rank = signatures["rank"]
    (specs,) = rank.input_signature

    def ranked(request: dict[str, Any]) -> np.ndarray:
        tensors = {name: tf.constant(request[name], spec.dtype) for name, spec in specs.items()}
        return np.array(rank(tensors)["score"])

    def single(examples: list[bytes]) -> np.ndarray:
        return np.array(signatures["serving_default"](tf.constant(examples, tf.string))["score"])

    return single, ranked


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("name", MODELS)
def test_rank_gives_the_scores_of_the_expanded_examples(graph: Graph, name: str) -> None:
    ranker = make_ranker(graph, MODELS[name])
    single, ranked = single_and_ranked(graph, ranker)
    ranker.length_groups = 1
    users, candidates = add_unknown_values(*make_users([8, 0, 1, 5], [4, 2, 0, 3]))
    scores = single(expand(users, candidates))
    assert np.isfinite(scores).all()
    assert np.ptp(scores) > 1e-3
    assert (np.abs(scores - 0.5) < 0.4999).all()
    expected = by_user(scores, candidates)
    np.testing.assert_allclose(ranked(to_request(users, candidates)), expected, atol=1e-5)
    ranker.length_groups = 2
    np.testing.assert_allclose(ranked(to_request(users, candidates)), expected, atol=1e-5)
    alone = to_request(users[3:], [candidates[3][:1]], spare=0)
    np.testing.assert_allclose(ranked(alone), expected[3:, :1], atol=1e-5)


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("backbone", ["din", "hyformer"])
def test_a_context_field_of_the_candidate_differs_within_a_request(
    graph: Graph, backbone: str
) -> None:
    description = fixtures.make_description()
    surface, hour = description.context
    own = replace(description, context=(replace(surface, per=Per.CANDIDATE), hour))
    single, ranked = single_and_ranked(graph, make_ranker(graph, {"backbone": backbone}, own))
    users, candidates = make_users([8, 1], [4, 3], (*OF_CANDIDATE, "surface"))
    assert len({row["surface"] for row in candidates[0]}) > 1
    request = to_request(users, candidates, filler={**FILLER, "surface": "feed"})
    assert np.shape(request["surface"]) == (2, 6)

    expected = by_user(single(expand(users, candidates)), candidates)
    np.testing.assert_allclose(ranked(request), expected, atol=1e-5)

    shared = {**request, "surface": [[row[0]] * 6 for row in request["surface"]]}
    assert np.abs(ranked(shared) - expected).max() > 1e-4
