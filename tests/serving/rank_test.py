"""``rank`` through the client, the server and an exported ranker, against ``serving_default``."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent import futures
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from models.export import export_ranker
from models.plan import read_run_config
from models.trainer import make_factory
from schemas.dataset_sections import Per
from serving.client import Client, ClientConfig
from tests.models import fixtures
from tests.models.profiles import make_profile
from tests.models.rank_requests import FILLER, OF_CANDIDATE, by_user, expand, make_users, to_request
from tests.serving.servers import Running, running

MODEL = {
    "backbone": "din",
    "embedding_dim": 4,
    "hidden_units": [8],
    "embedding_init_std": 0.5,
    "extra_inputs": ["user_id", "history_length", "history_length_total"],
}
OWN = (*OF_CANDIDATE, "surface")
NUMBERS = ("age",)
COLUMNS = {**FILLER, "surface": "feed"}
SPARE = 2
MOST_WAIT_MICROS = 300_000

# ovmsclient calls serving_default alone: its calls name no signature.
_OTHER_CLIENT = """
import json, sys
import ovmsclient

grpc, rest, examples = sys.argv[1:]
examples = [bytes.fromhex(each) for each in json.load(open(examples))]
found = [
    client.predict({"examples": examples}, "tiny", 1).tolist()
    for client in (
        ovmsclient.make_grpc_client(f"127.0.0.1:{grpc}"),
        ovmsclient.make_http_client(f"127.0.0.1:{rest}"),
    )
]
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported ranker with random weights; ``surface`` differs by candidate."""
    folder = tmp_path_factory.mktemp("ranker")
    tiny = fixtures.make_description()
    surface, hour = tiny.context
    description = replace(tiny, context=(replace(surface, per=Per.CANDIDATE), hour))
    config = fixtures.custom_config(description, MODEL)
    rows = {"train": fixtures.make_rows(300)}
    graph, _ = fixtures.run_transform(folder / "data", rows, config, fixtures.make_schema())
    run = read_run_config(config)
    ranker = make_factory(run, graph, make_profile(max_length=8)).make()
    random = np.random.default_rng(0)
    for weight in ranker.trainable_variables:
        weight.assign_add(random.normal(scale=0.1, size=tuple(weight.shape)))
    export_ranker(ranker, graph, str(folder / "versions" / "1"), saved_config=run.plain)
    return folder / "versions"


@pytest.fixture(scope="module")
def server(versions: Path) -> Iterator[Running]:
    batching = {"pad_variable_length_inputs": True, "timeout_micros": MOST_WAIT_MICROS}
    with running(versions, batching=batching) as found:
        yield found


@pytest.fixture(params=["grpc", "rest"])
def client(server: Running, request: pytest.FixtureRequest) -> Iterator[Client]:
    grpc, rest = server.ports.grpc, server.ports.rest
    address = f"127.0.0.1:{grpc}" if request.param == "grpc" else f"http://127.0.0.1:{rest}"
    with Client(ClientConfig(address=address, deadline_seconds=60)) as opened:
        yield opened


def call(client: Client, request: dict[str, Any]) -> np.ndarray:
    """Ranks by a request, whose counts and numbers are of the signature's types."""
    given = {
        name: np.float32(value) if name in NUMBERS else value for name, value in request.items()
    }
    counts = given.pop("candidate_count")
    candidates = {name: given.pop(name) for name in OWN}
    result = client.rank("tiny", given, candidates, candidate_count=counts)
    assert result.counts.tolist() == counts
    return result.scores


def scores_of(client: Client, examples: list[bytes]) -> np.ndarray:
    return client.predict("tiny", {"examples": examples}).outputs["score"]


def test_rank_gives_the_scores_of_the_expanded_examples(client: Client) -> None:
    users, candidates = make_users([8, 0, 1, 5], [4, 2, 0, 3], OWN)
    expected = by_user(scores_of(client, expand(users, candidates)), candidates, spare=SPARE)
    assert np.ptp(expected[0, :4]) > 1e-3

    request = to_request(users, candidates, spare=SPARE, filler=COLUMNS)
    found = call(client, request)

    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert found.shape == (4, 6)


def test_the_answer_of_a_merged_request_is_as_wide_as_its_own(
    client: Client, server: Running
) -> None:
    users, candidates = make_users([8, 2, 1, 5, 3, 7], [4, 2, 1, 3, 9, 5], OWN)
    expected = by_user(scores_of(client, expand(users, candidates)), candidates, spare=0)
    requests = [
        to_request([user], [own], spare=0, filler=COLUMNS)
        for user, own in zip(users, candidates, strict=True)
    ]
    before = merged_batches(server)

    with futures.ThreadPoolExecutor(len(requests)) as pool:
        found = list(pool.map(lambda request: call(client, request), requests))

    for scores, row, own in zip(found, expected, candidates, strict=True):
        np.testing.assert_allclose(scores, row[np.newaxis, : len(own)], atol=1e-5)
    assert merged_batches(server) > before


def merged_batches(server: Running) -> float:
    """Calls of the model that answered more than one ``rank`` request."""
    page = server.rest("GET", "/monitoring/prometheus/metrics")[1]
    counts = {
        bound: float(line.rsplit(" ", 1)[1])
        for line in page.splitlines()
        for bound in ("1", "+Inf")
        if line.startswith(":lengthwise:serving:batch_requests_bucket")
        and 'signature="rank"' in line
        and f'le="{bound}"' in line
    }
    return counts.get("+Inf", 0) - counts.get("1", 0)


def test_a_client_that_is_not_ours_gets_the_same_scores(
    client: Client, server: Running, tmp_path: Path
) -> None:
    there = subprocess.run(
        [sys.executable, "-c", "import ovmsclient"], capture_output=True, check=False
    )
    if there.returncode:
        pytest.skip(f"needs ovmsclient, which {sys.executable} has not")
    # In the order of their names, the last feature is the user's number: ovmsclient's arrays lose
    # zero bytes at the end of a text.
    examples = [
        tf.train.Example.FromString(each).SerializeToString(deterministic=True)
        for each in expand(*make_users([8, 0], [3, 2], OWN))
    ]
    file = tmp_path / "examples.json"
    file.write_text(json.dumps([each.hex() for each in examples]))

    done = subprocess.run(
        [
            *(sys.executable, "-c", _OTHER_CLIENT),
            *(str(server.ports.grpc), str(server.ports.rest), str(file)),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )

    assert done.returncode == 0, done.stderr
    for scores in json.loads(done.stdout.splitlines()[-1]):
        np.testing.assert_allclose(scores, scores_of(client, examples), atol=1e-6)
