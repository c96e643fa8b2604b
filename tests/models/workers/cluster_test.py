"""Tests of finding the workers of a training."""

from __future__ import annotations

import json
from typing import Any

import pytest

from models.config import TrainConfig
from models.workers.cluster import Cluster, ClusterError, read_cluster
from schemas.loading import ConfigError, build

HOSTS = ["a:1", "b:2", "c:3"]


def tf_config(cluster: Any, kind: str = "worker", index: int = 0) -> dict[str, str]:
    return {"TF_CONFIG": json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}})}


def test_one_worker_needs_no_cluster() -> None:
    assert read_cluster(None, {}) is None
    assert read_cluster(None, tf_config({"chief": ["a:1"]}, "chief")) is None


def test_the_configuration_makes_the_chief_unless_told_otherwise() -> None:
    assert read_cluster(HOSTS, {}) == Cluster(addresses=tuple(HOSTS), index=0)
    found = read_cluster(HOSTS, {}, 2)
    assert found is not None
    assert not found.is_chief
    assert found.name(2) == "worker 2 (c:3)"
    assert found.name(0) == "worker 0 (a:1, the chief)"


def test_tf_config_goes_before_the_configuration_and_puts_its_chief_first() -> None:
    cluster = {"worker": ["b:2", "c:3"], "chief": ["a:1"]}
    found = read_cluster(["x:1", "y:1"], tf_config(cluster, "worker", 1))
    assert found == Cluster(addresses=tuple(HOSTS), index=2)
    chief = read_cluster(None, tf_config(cluster, "chief"))
    assert chief is not None
    assert chief.is_chief


def test_without_a_chief_the_first_worker_is_it() -> None:
    found = read_cluster(None, tf_config({"worker": HOSTS}, index=1))
    assert found == Cluster(addresses=tuple(HOSTS), index=1)


def test_tensorflow_is_told_the_same_workers() -> None:
    text = Cluster(addresses=("a:1", "b:2"), index=1).tf_config
    assert json.loads(text) == {
        "cluster": {"worker": ["a:1", "b:2"]},
        "task": {"type": "worker", "index": 1},
    }


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"TF_CONFIG": "{"}, r"TF_CONFIG: JSONDecodeError.*a JSON object is accepted such as"),
        ({"TF_CONFIG": "{}"}, "TF_CONFIG: KeyError: 'cluster'"),
        (tf_config({"worker": "a:1"}), "a list of addresses is expected, found 'a:1'"),
        (tf_config({"worker": HOSTS, "ps": ["p:1"]}), r"found tasks \['ps'\]; chief and worker"),
        (tf_config({"worker": HOSTS}, "evaluator"), r"found tasks \['evaluator'\]"),
        (tf_config({"chief": HOSTS}, "chief"), "3 chiefs; one is accepted"),
        (tf_config({"worker": HOSTS}, index=3), "task worker 3, but the cluster has 3 of them"),
        (tf_config({"worker": ["a", "b:1"]}), "'a': host:port is accepted"),
    ],
)
def test_a_bad_environment_is_refused(environment: dict[str, str], message: str) -> None:
    with pytest.raises(ClusterError, match=message):
        read_cluster(None, environment)


def test_an_index_beyond_the_workers_is_refused() -> None:
    with pytest.raises(ClusterError, match="worker 3: 0 to 2 is accepted"):
        read_cluster(HOSTS, {}, 3)


@pytest.mark.parametrize(
    ("workers", "message"),
    [
        (["a:1"], "two addresses or more are accepted, or null"),
        (["a:1", "a:1"], "each worker needs an address of its own"),
        (["a:1", "b"], "'b': host:port is accepted"),
        (["a:1", "b:70000"], "'b:70000': host:port is accepted"),
    ],
)
def test_bad_addresses_are_refused_by_the_configuration(workers: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=f"train: workers .*{message}"):
        build(TrainConfig, {"workers": workers}, where="train")
