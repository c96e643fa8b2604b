"""What the canary sends to the signatures of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from serving.canary.report import CanaryReport, Check, SignatureReport
from serving.canary.requests import CanaryRequest, RequestBuilder, uses_examples
from serving.client_support.results import Signature
from serving.scoring.score import model_metadata
from serving.server.signature import DEFAULT_SIGNATURE


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is sent.

    Attributes:
        builders: builder of each signature that can be called, by name.
        base: the signature that the others are compared with, one that takes examples, if there
            is one.
        requests: every example to every signature.
        expanded: for each of these requests that ranks, its users' candidates as examples, to
            the base.
    """

    builders: Mapping[str, RequestBuilder]
    base: str | None
    requests: Sequence[CanaryRequest]
    expanded: Sequence[CanaryRequest]


def make_plan(model: Path, examples: Sequence[bytes], report: CanaryReport) -> Plan | None:
    """Builds the requests to all signatures of a model.

    Args:
        model: folder of the SavedModel.
        examples: serialized ``tf.Example``s.
        report: where it is noted what cannot be called.

    Returns:
        The plan, or None if there is nothing to send.
    """
    try:
        signatures = model_metadata(model).signatures
    except ValueError as error:
        report.refuse(Check.LOAD, str(error), "a SavedModel")
        report.skip(*(check for check in Check if check is not Check.LOAD))
        return None
    if len(set(examples)) < 2:
        report.refuse(
            Check.REQUESTS,
            f"{len(set(examples))} different examples",
            "at least 2, or none can tell whether scores are constant",
        )
        report.skip(*(check for check in Check if check is not Check.REQUESTS))
        return None
    builders = {}
    for name, signature in sorted(signatures.items()):
        try:
            builders[name] = RequestBuilder(name, signature, examples)
        except ValueError as error:
            report.refuse(Check.REQUESTS, str(error), "features of the examples", name)
        report.signatures[name] = SignatureReport()
    if not builders:
        report.refuse(Check.REQUESTS, "no signature that can be called", "at least one")
        report.skip(*(check for check in Check if check is not Check.REQUESTS))
        return None
    base = _base(signatures)
    requests = [request for builder in builders.values() for request in builder.all()]
    expanded = []
    if base is not None:
        for request in requests:
            if request.candidates is not None:
                pairs = builders[request.signature].expanded(request)
                builder = RequestBuilder(base, signatures[base], pairs)
                expanded.append(builder.rows(range(len(pairs))))
    return Plan(builders=builders, base=base, requests=requests, expanded=expanded)


def _base(signatures: Mapping[str, Signature]) -> str | None:
    """Returns the signature that the others are compared with: one that takes examples."""
    names = sorted(signatures, key=lambda name: (name != DEFAULT_SIGNATURE, name))
    return next((name for name in names if uses_examples(signatures[name])), None)
