"""The canary: a model is served outside the process, to real examples, before anyone relies on it.

A good model passes every check of :class:`serving.canary.report.Check`. All of them are made, not
only up to the first that fails.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from serving.canary import scores
from serving.canary.calls import Answers, call, open_client, timed_call
from serving.canary.config import CanaryConfig
from serving.canary.plan import Plan, make_plan
from serving.canary.process import Reference, ReferenceProcess
from serving.canary.report import CanaryReport, Check, SignatureReport
from serving.canary.requests import CanaryRequest
from serving.canary.server import (
    OutsideServer,
    ServerFailed,
    choose_server,
    outside_server,
)
from serving.canary.warmup import write_warm_copy
from serving.client_support.errors import ServingError

VERSION = "1"
_UNTIMED_CALLS = 10
_WARMUP_METRIC = ":tensorflow:serving:model_warmup_latency_count"
_ON_SCORES = (Check.AGREEMENT, Check.FINITE, Check.RANGE, Check.CONSTANT)
_ON_SERVER = (Check.WARMUP, Check.ANSWERS, Check.LATENCY)


def check_model(
    model: Path, examples: Iterable[bytes], versions: Path, work: Path, config: CanaryConfig
) -> CanaryReport:
    """Checks a SavedModel and makes a copy of it with warm-up requests.

    Args:
        model: folder of the SavedModel; stays as it is.
        examples: real examples, serialized ``tf.Example``s; the first ``config.examples`` are
            sent.
        versions: folder that is made; the copy is version 1 in it.
        work: folder that is made, for what need not be kept.
        config: what is accepted.

    Returns:
        The report. The copy is good only if it passed.

    Raises:
        OSError: the disk does not take the copy.
        ValueError: the examples cannot be read.
    """
    versions.mkdir(parents=True)
    work.mkdir(parents=True)
    chosen = list(itertools.islice(examples, config.examples))
    report = CanaryReport(examples=len(chosen))
    plan = make_plan(model, chosen, report)
    if plan is None:
        return report
    reference_process = ReferenceProcess(model, [*plan.requests, *plan.expanded], work)
    try:
        _check_served(model, versions, work, plan, reference_process, report, config)
    finally:
        reference_process.close()
    return report


def _check_served(
    model: Path,
    versions: Path,
    work: Path,
    plan: Plan,
    reference_process: ReferenceProcess,
    report: CanaryReport,
    config: CanaryConfig,
) -> None:
    warm = [
        builder.of_size(size) for builder in plan.builders.values() for size in config.batch_sizes
    ]
    report.warmup_records = write_warm_copy(model, versions / VERSION, warm)
    reference = None
    try:
        kind = choose_server(config.server)
        report.server = kind.value
        with outside_server(versions, work / "server", kind, config.timeout_seconds) as server:
            _check_replayed(server, report)
            reference = reference_process.result(config.timeout_seconds)
            _check_answers(server, plan, reference, report, config)
            _check_latency(server, plan, report, config)
    except ServerFailed as error:
        report.refuse(
            Check.SERVER,
            str(error),
            f"a model that is available within canary.timeout_seconds ({config.timeout_seconds:g})",
        )
        report.skip(*_ON_SERVER)
    reference = reference or reference_process.result(config.timeout_seconds)
    _check_reference(plan, reference, report, config)


def _check_replayed(server: OutsideServer, report: CanaryReport) -> None:
    try:
        page = server.metrics()
    except OSError as error:
        page = ""
        report.refuse(Check.WARMUP, f"the server's metrics cannot be read: {error}", "metrics")
    counted = [line for line in page.splitlines() if line.startswith(_WARMUP_METRIC)]
    if not any('status="OK"' in line and not line.endswith(" 0") for line in counted):
        report.refuse(
            Check.WARMUP,
            f"the server's metrics say {'; '.join(counted) or 'nothing'} of a warm-up",
            "one that ended with OK",
        )


def _check_answers(
    server: OutsideServer,
    plan: Plan,
    reference: Reference,
    report: CanaryReport,
    config: CanaryConfig,
) -> None:
    if reference.load_error:
        report.skip(Check.ANSWERS)
        return
    for transport, address in (("gRPC", server.grpc), ("REST", server.rest)):
        with open_client(address) as client:
            failed: set[str] = set()
            for request, expected in zip(plan.requests, reference.answers, strict=False):
                if isinstance(expected, str) or request.signature in failed:
                    continue
                try:
                    found = call(client, request, expected)
                except (ServingError, ValueError) as error:
                    text = f"over {transport}: {error}"
                    report.refuse(Check.ANSWERS, text, "an answer", request.signature)
                    failed.add(request.signature)
                    continue
                _compare(transport, request, (expected, found), report, config.tolerance)


def _compare(
    transport: str,
    request: CanaryRequest,
    pair: tuple[Answers, Answers],
    report: CanaryReport,
    tolerance: float,
) -> None:
    largest, other = scores.difference(*pair)
    differences = report.signatures[request.signature].max_difference
    differences[transport] = max(largest, differences.get(transport, 0.0))
    if other:
        text = f"over {transport}: {other}"
        report.refuse(Check.ANSWERS, text, "what the model gives in process", request.signature)
    if largest > tolerance:
        report.refuse(
            Check.ANSWERS,
            f"over {transport}: example {request.rows[0]} and those after it get scores that "
            f"differ by {largest:.3g} from those in process",
            f"a difference of at most {tolerance:g}",
            request.signature,
        )


def _check_latency(
    server: OutsideServer, plan: Plan, report: CanaryReport, config: CanaryConfig
) -> None:
    with open_client(server.grpc) as client:
        for name, builder in plan.builders.items():
            size = max(config.batch_sizes) if builder.ranks else 1
            requests = [
                builder.of_size(size, first)
                for first in range(min(report.examples, config.latency_calls))
            ]
            try:
                for number in range(_UNTIMED_CALLS):
                    call(client, requests[number % len(requests)])
                seconds = [
                    timed_call(client, requests[number % len(requests)])
                    for number in range(config.latency_calls)
                ]
            except (ServingError, ValueError) as error:
                report.refuse(Check.LATENCY, f"a call failed: {error}", "an answer", name)
                continue
            one = report.signatures[name]
            one.calls = len(seconds)
            one.p50_ms = round(float(np.percentile(seconds, 50)) * 1e3, 3)
            one.p99_ms = round(float(np.percentile(seconds, 99, method="higher")) * 1e3, 3)
            if one.p99_ms > config.latency_p99_ms:
                what = f"one user with {size} candidates" if builder.ranks else "one example"
                report.refuse(
                    Check.LATENCY,
                    f"p99 of {one.calls} warm calls with {what} is {one.p99_ms:.3g} ms",
                    f"canary.latency_p99_ms of at most {config.latency_p99_ms:g}",
                    name,
                )


def _check_reference(
    plan: Plan, reference: Reference, report: CanaryReport, config: CanaryConfig
) -> None:
    if reference.unknown_ops or reference.python_ops:
        listed = [*reference.unknown_ops, *reference.python_ops]
        report.refuse(
            Check.OPS,
            f"the graph has the operations {', '.join(listed)}",
            "operations of plain TensorFlow that run without Python",
        )
    if reference.load_error:
        report.refuse(Check.LOAD, reference.load_error, "a model that TensorFlow alone loads")
        report.skip(*_ON_SCORES)
        return
    values: dict[str, list[np.ndarray]] = {}
    answers: dict[str, list[Answers]] = {}
    for request, answer in zip(plan.requests, reference.answers, strict=False):
        if isinstance(answer, str):
            text = f"without a server and without Lengthwise: {answer}"
            report.refuse(Check.LOAD, text, "an answer", request.signature)
            continue
        answers.setdefault(request.signature, []).append(answer)
        score = scores.score_of(request, answer)
        if score is not None:
            values.setdefault(request.signature, []).append(score.values)
            if score.padding.any():
                report.refuse(
                    Check.AGREEMENT,
                    f"{score.padding[score.padding != 0][0]:.6g} in a column past candidate_count",
                    "0",
                    request.signature,
                )
    joined = {name: np.concatenate(parts) for name, parts in values.items()}
    for name, found in answers.items():
        scores.check_scores(report, name, found)
    for name, array in joined.items():
        _note(report.signatures[name], array)
        scores.check_constant(report, name, array, config.tolerance)
    _check_agreement(plan, reference, joined, report, config)


def _check_agreement(
    plan: Plan,
    reference: Reference,
    joined: Mapping[str, np.ndarray],
    report: CanaryReport,
    config: CanaryConfig,
) -> None:
    base = plan.base
    if base is None or base not in joined:
        return
    later = reference.answers[len(plan.requests) :]
    pairs: dict[str, list[np.ndarray]] = {}
    ranked = [request for request in plan.requests if request.candidates is not None]
    for request, expanded, answer in zip(ranked, plan.expanded, later, strict=False):
        score = None if isinstance(answer, str) else scores.score_of(expanded, answer)
        if score is not None:
            pairs.setdefault(request.signature, []).append(score.values)
    for name, found in joined.items():
        expected = np.concatenate(pairs[name]) if name in pairs else joined[base]
        if name != base and found.shape == expected.shape:
            scores.check_same(report, name, base, (found, expected), config.tolerance)


def _note(report: SignatureReport, values: np.ndarray) -> None:
    report.rows = int(values.size)
    finite = values[np.isfinite(values)]
    if finite.size:
        report.lowest, report.highest = float(finite.min()), float(finite.max())
