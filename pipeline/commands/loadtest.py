"""``lengthwise loadtest``: a server under real requests at a given rate."""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from pathlib import Path
from typing import Any

from pipeline.commands.score import signature_for
from pipeline.commands.serving_client import client_config, target_of
from pipeline.exits import EXIT_BAD_INPUT, EXIT_FAULT, EXIT_OK
from schemas.loading import build
from schemas.writing import write_text
from serving.client import Client
from serving.client_support.config import ClientConfig, Transport
from serving.client_support.errors import ServingError, StatusCode
from serving.client_support.grpc_transport import example_request, predict_request
from serving.client_support.rest_bodies import example_body, predict_body
from serving.client_support.rest_transport import model_path
from serving.client_support.results import ModelTarget, Signature
from serving.loadtest.config import LoadConfig
from serving.loadtest.report import draw_histogram, histogram_text, summarise
from serving.loadtest.run import Sender, batches, run_load
from serving.loadtest.senders import GrpcSender, RestSender
from serving.protocol import messages
from serving.scoring.rows import Row, examples_of, inputs_of, read_rows
from serving.scoring.score import CLASSIFY_METHOD, REGRESS_METHOD

# Calls of REST under way at most: each holds a thread.
REST_THREADS = 128

_VERBS = {CLASSIFY_METHOD: "classify", REGRESS_METHOD: "regress"}


def main(arguments: argparse.Namespace) -> int:
    """Runs the load and reports it; fails if no request was answered."""
    load = build(
        LoadConfig,
        {
            "rate": arguments.rate,
            "duration_seconds": arguments.duration,
            "warmup_seconds": arguments.warmup,
            "arrivals": arguments.arrivals,
            "seed": arguments.seed,
            "deadline_seconds": arguments.deadline,
        },
        where="loadtest",
    )
    config, target = client_config(arguments), target_of(arguments)
    try:
        requests = _requests(arguments)
        name = arguments.signature or signature_for(requests[0][0])
        with Client(config) as client:
            metadata = client.metadata(target)
        sender = _sender(config, target, name, metadata.signature(name), requests)
        try:
            result = run_load(sender, len(requests), load)
        finally:
            sender.close()
    except ServingError as error:
        print(f"lengthwise: {error}", file=sys.stderr)
        return EXIT_FAULT
    except ValueError as error:
        print(f"lengthwise: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    summary = {
        "address": config.address,
        "model": target.name,
        "version": metadata.version,
        "signature": name,
        "rows_a_request": arguments.batch_size,
        "different_requests": len(requests),
        **summarise(result, load),
    }
    _print(summary, histogram_text(result.latency[result.outcome == StatusCode.OK.value]))
    if arguments.json is not None:
        write_text(Path(arguments.json), json.dumps(summary, indent=2) + "\n")
    if arguments.picture is not None:
        draw_histogram(result, summary, Path(arguments.picture))
    return EXIT_OK if summary["latency_ms"] is not None else EXIT_FAULT


def _requests(arguments: argparse.Namespace) -> list[Any]:
    if arguments.batch_size < 1 or arguments.requests < 1:
        raise ValueError(
            f"--batch-size {arguments.batch_size}, --requests {arguments.requests}: at least 1 is "
            "accepted"
        )
    rows: list[Row] = list(
        itertools.islice(
            itertools.chain.from_iterable(read_rows(Path(one)) for one in arguments.rows),
            arguments.requests * arguments.batch_size,
        )
    )
    found = batches(rows, arguments.batch_size)
    if not found:
        raise ValueError(
            f"{len(rows)} rows do not make one request of {arguments.batch_size}; give more rows "
            "or a smaller --batch-size"
        )
    return found


def _sender(
    config: ClientConfig,
    target: ModelTarget,
    name: str,
    signature: Signature,
    requests: list[Any],
) -> Sender:
    verb = _VERBS.get(signature.method_name, "predict")
    if config.transport is Transport.REST:
        bodies = [
            predict_body(inputs_of(rows, signature), name)
            if verb == "predict"
            else example_body(examples_of(rows), name)
            for rows in requests
        ]
        url = f"{config.address.rstrip('/')}{model_path(target)}:{verb}"
        return RestSender(config, url, bodies, REST_THREADS)
    kinds = {
        "classify": (messages.CLASSIFY, messages.ClassificationRequest),
        "regress": (messages.REGRESS, messages.RegressionRequest),
    }
    if verb == "predict":
        built = [predict_request(target, inputs_of(rows, signature), name) for rows in requests]
        method = messages.PREDICT
    else:
        method, kind = kinds[verb]
        built = [example_request(kind, target, examples_of(rows), name) for rows in requests]
    return GrpcSender(config, method, [one.SerializeToString() for one in built])


def _print(summary: dict[str, Any], histogram: list[str]) -> None:
    print(
        f"{summary['requests']:,} requests due at {summary['target_rate']:g}/s, "
        f"{summary['achieved_rate']:g}/s answered"
    )
    for name, figures in (
        ("answered", summary["latency_ms"]),
        ("with the failed", summary["latency_of_all_ms"] if summary["errors"] else None),
    ):
        if figures is not None:
            line = "  ".join(f"{key} {value:g}" for key, value in figures.items())
            print(f"latency in ms, {name}: {line}")
    for code, count in summary["errors"].items():
        print(f"{code:<24}{count:>12,}")
    for line in histogram:
        print(line)
    if not summary["sender_kept_up"]:
        lag = summary["sender_lag_ms"]
        print(
            f"lengthwise: warning: this machine was late itself (p99 {lag['p99']:g} ms, at most "
            f"{lag['max']:g} ms): lower the rate or send from another machine",
            file=sys.stderr,
        )
