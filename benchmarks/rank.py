"""The ``rank`` signature against scoring the same candidates one example each.

    python -m benchmarks.rank [--models sim twin] [--candidates 500] [--length 1000] [--rounds 5]
        [--output rank.json] [--graph FOLDER]

One user with a full history and 500 candidates. ``rank`` gets one request; ``serving_default`` the
500 expanded examples as serialized protos, which it parses; ``score`` the same as raw tensors. The
three take turns in one process, and the ratios are of their median times, and of their median
processor times, which other work on the machine disturbs less. Weights are random and
nothing is trained; the Transform graph comes from simulated examples with 150,000 items. FOLDER
keeps that graph for the next run.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from models.export import make_signatures
from models.files import write_json
from models.plan import CANDIDATE_COUNT, CUSTOM_CONFIG_KEY, RunConfig, read_run_config
from models.trainer import make_factory
from schemas.dataset import DatasetDescription
from schemas.loading import build, to_plain
from schemas.profile import SequenceProfile
from tests.models import fixtures

ITEMS = 150_000
FIELD_VALUES = 10_000
LENS = {"position": "query_specific", "lens": {"source": "item_and_sequence"}}
MODELS: dict[str, dict[str, Any]] = {
    "sim": {"backbone": "sim"},
    "eta": {"backbone": "eta"},
    "sdim": {"backbone": "sdim"},
    "twin": {"backbone": "twin"},
    "mixformer+lens": {"backbone": "mixformer", **LENS},
    "hyformer+lens": {"backbone": "hyformer", **LENS},
    "din": {"backbone": "din"},
}
USER_FIELDS = ("surface", "country", "device")
ITEM_FIELDS = ("author", "category")
TIMES_FASTER = {"sim": 10, "eta": 10, "sdim": 10, "twin": 10, "mixformer+lens": 8,
                "hyformer+lens": 4, "din": 4}  # fmt: skip

Row = dict[str, Any]
Call = Callable[[], tf.Tensor]


def main(argv: Sequence[str] | None = None) -> None:
    """Measures, prints a table and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--candidates", type=int, default=500)
    parser.add_argument("--length", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--graph", type=Path)
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        graph = load_graph(arguments.graph or Path(folder), arguments.length)
        print(
            "| model | rank, candidates/s | serving_default | times | in processor time "
            "| score | times | in processor time | target |"
        )
        print("|---|" + "---:|" * 8)
        figures = {}
        for name in arguments.models:
            figures[name] = measure(name, graph, arguments)
            print(_table_row(name, figures[name]), flush=True)
    if arguments.output:
        write_json(str(arguments.output), {"settings": _settings(arguments), "models": figures})


def measure(name: str, graph: tft.TFTransformOutput, arguments: Any) -> dict[str, Any]:
    """Returns candidates a second of the three signatures of one model."""
    calls = make_calls(run_config(MODELS[name], arguments.length), graph, arguments)
    found = {signature: np.array(call()).ravel() for signature, call in calls.items()}
    for signature, scores in found.items():
        np.testing.assert_allclose(scores, found["rank"], atol=1e-5, err_msg=f"{name} {signature}")
    seconds: dict[str, list[float]] = {signature: [] for signature in calls}
    processor: dict[str, list[float]] = {signature: [] for signature in calls}
    for _ in range(arguments.rounds):
        for signature, call in calls.items():
            start, start_processor = time.perf_counter(), time.process_time()
            call()
            seconds[signature].append(time.perf_counter() - start)
            processor[signature].append(time.process_time() - start_processor)
    medians = {signature: statistics.median(times) for signature, times in seconds.items()}
    work = {signature: statistics.median(times) for signature, times in processor.items()}
    return {
        "candidates_per_second": {k: arguments.candidates / v for k, v in medians.items()},
        "times": {k: v / medians["rank"] for k, v in medians.items()},
        "times_processor": {k: v / work["rank"] for k, v in work.items()},
        "seconds": seconds,
        "processor_seconds": processor,
    }


def make_calls(config: RunConfig, graph: tft.TFTransformOutput, arguments: Any) -> dict[str, Call]:
    """Returns for each signature a call that scores all candidates and waits for the scores."""
    ranker = make_factory(config, graph, make_profile(arguments.length)).make()
    ranker.length_groups = 1  # as in the export
    layer = graph.transform_features_layer()
    signatures = make_signatures(ranker, graph, layer)
    random = np.random.default_rng(1)
    user = make_row(random, arguments.length)
    rows = [
        {**user, **{key: make_row(random, 0)[key] for key in ("item_id", *ITEM_FIELDS)}}
        for _ in range(arguments.candidates)
    ]
    examples = tf.constant([fixtures.to_example(row) for row in rows])
    (specs,) = signatures["score"].input_signature
    tensors = {
        key: tf.constant([row[key] for row in rows], spec.dtype) for key, spec in specs.items()
    }
    (specs,) = signatures["rank"].input_signature
    given = {**user, CANDIDATE_COUNT: len(rows)}
    request = {
        key: tf.constant(
            [[row[key] for row in rows] if key in ("item_id", *ITEM_FIELDS) else given[key]],
            spec.dtype,
        )
        for key, spec in specs.items()
    }
    return {
        "rank": lambda: signatures["rank"](request)["score"].numpy(),
        "serving_default": lambda: signatures["serving_default"](examples)["score"].numpy(),
        "score": lambda: signatures["score"](tensors)["score"].numpy(),
    }


def make_row(random: np.random.Generator, length: int) -> Row:
    """One simulated impression."""
    fields = {name: int(random.integers(FIELD_VALUES)) for name in (*USER_FIELDS, *ITEM_FIELDS)}
    return {
        "label": int(random.integers(2)),
        "item_id": int(random.integers(ITEMS)),
        **fields,
        "history_item_id": random.integers(ITEMS, size=length).tolist(),
        "history_category": random.integers(FIELD_VALUES, size=length).tolist(),
        "history_action": random.integers(1, 3, size=length).tolist(),
        "history_length": length,
        "history_length_total": length,
    }


def run_config(model: dict[str, Any], length: int) -> RunConfig:
    """A run with embeddings of width 64, three user fields and two item fields.

    Events carry their item, its category and their action.
    """
    plain = {
        "description": to_plain(make_description()),
        "data": {"history": {"protocol": "typed_exposure", "max_length": length}},
        "model": {"embedding_dim": 64, "vocabulary_min_count": 1, **model},
        "train": {},
    }
    return read_run_config({CUSTOM_CONFIG_KEY: json.dumps(plain)})


def make_description() -> DatasetDescription:
    """Describes the simulated log."""

    def side(of: str, names: Sequence[str]) -> dict[str, Any]:
        fields = [{"name": name, "type": "int"} for name in names]
        return {"files": [f"{of}s.csv"], "key": f"{of}_id", "fields": fields}

    plain = {
        "name": "rank",
        "log": {"files": ["*.parquet"]},
        "user": {"column": "user_id", "type": "int"},
        "item": {"column": "item_id", "type": "int"},
        "time": {"column": "time_ms", "years": [2025, 2026]},
        "label": {"column": "clicked"},
        "actions": [
            {"name": "click", "when": ["clicked"], "positive": True},
            {"name": "exposure"},
        ],
        "history_fields": ["category"],
        "side": {"user": side("user", USER_FIELDS), "item": side("item", ITEM_FIELDS)},
        "split": {"validation": "1d", "test": "1d"},
    }
    return build(DatasetDescription, plain, where="rank")


def load_graph(folder: Path, length: int) -> tft.TFTransformOutput:
    """Analyses simulated examples that hold every item, or loads what an earlier run left."""
    if not (folder / "graph").exists():
        random = np.random.default_rng(0)
        rows = [make_row(random, 1000) for _ in range(ITEMS // 1000)]
        for index, row in enumerate(rows):
            row["history_item_id"] = list(range(1000 * index, 1000 * (index + 1)))
        config = {CUSTOM_CONFIG_KEY: json.dumps(run_config(MODELS["din"], length).plain)}
        fixtures.run_transform(folder, {"train": rows}, config, make_schema())
    return tft.TFTransformOutput(str(folder / "graph"))


def make_schema() -> schema_pb2.Schema:
    """The schema of the simulated rows."""
    one = "presence { min_fraction: 1 } shape { dim { size: 1 } }"
    scalars = ("label", "item_id", *USER_FIELDS, *ITEM_FIELDS, "history_length_total")
    text = "".join(f'feature {{ name: "{name}" type: INT {one} }}\n' for name in scalars)
    for name in ("history_item_id", "history_category", "history_action"):
        text += f'feature {{ name: "{name}" type: INT }}\n'
    return text_format.Parse(text, schema_pb2.Schema())


def make_profile(length: int) -> SequenceProfile:
    """Statistics that LENS and LAIN are set by."""
    return SequenceProfile(
        examples=1_000_000,
        max_length=length,
        length_mean=170.0,
        length_std=250.0,
        length_quantiles={},
        total_length_quantiles={},
        items=ITEMS,
        samples_per_item=1_000_000 / ITEMS,
        proposed_length_edges=[],
        proposed_density_edges=[],
        length_bucket_shares={},
        density_bucket_shares={},
        label_mean=0.2,
    )


def _table_row(name: str, found: dict[str, Any]) -> str:
    rates = found["candidates_per_second"]
    cells = [f"{rates['rank']:,.0f}"]
    for signature in ("serving_default", "score"):
        cells += [f"{rates[signature]:,.0f}", f"{found['times'][signature]:.1f}"]
        cells += [f"{found['times_processor'][signature]:.1f}"]
    return f"| {name} | {' | '.join(cells)} | {TIMES_FASTER[name]} |"


def _settings(arguments: Any) -> dict[str, Any]:
    return {key: getattr(arguments, key) for key in ("candidates", "length", "rounds")}


if __name__ == "__main__":
    main()
