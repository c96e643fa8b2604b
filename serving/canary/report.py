"""What the canary found."""

from __future__ import annotations

import enum
from dataclasses import asdict, dataclass, field
from typing import Any


class Check(enum.StrEnum):
    """A check of the canary.

    ``requests`` are the examples that can be sent, ``ops`` the operations of the graph, ``load``
    a process without Lengthwise, ``server`` the start of the server, ``warmup`` the warm-up
    requests, ``answers`` the server against that process, ``agreement`` the signatures among each
    other; ``finite``, ``range`` and ``constant`` look at the scores, ``latency`` at the clock.
    """

    REQUESTS = "requests"
    OPS = "ops"
    LOAD = "load"
    SERVER = "server"
    WARMUP = "warmup"
    ANSWERS = "answers"
    AGREEMENT = "agreement"
    FINITE = "finite"
    RANGE = "range"
    CONSTANT = "constant"
    LATENCY = "latency"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Why a model is refused.

    Attributes:
        check: the check that failed.
        found: what was found.
        accepted: what would be accepted.
        signature: signature that it was found in, if in one.
    """

    check: Check
    found: str
    accepted: str
    signature: str = ""

    def __str__(self) -> str:
        where = f", signature {self.signature!r}" if self.signature else ""
        return f"canary {self.check.value}{where}: {self.found}; accepted: {self.accepted}"


@dataclass
class SignatureReport:
    """What one signature did.

    Attributes:
        rows: scores that were looked at.
        calls: calls that the latency was taken over.
        p50_ms: median of the latency, milliseconds.
        p99_ms: its 99th percentile.
        max_difference: largest difference to the scores without a server, by transport.
        lowest: lowest score.
        highest: highest score.
    """

    rows: int = 0
    calls: int = 0
    p50_ms: float | None = None
    p99_ms: float | None = None
    max_difference: dict[str, float] = field(default_factory=dict)
    lowest: float | None = None
    highest: float | None = None


@dataclass
class CanaryReport:
    """The result of all checks.

    Attributes:
        server: which server was started.
        examples: examples that were sent.
        warmup_records: warm-up requests that were written into the copy.
        signatures: what each signature did.
        findings: why the model is refused; none if it is good.
        not_run: checks that could not be made, since one before them failed.
    """

    server: str = ""
    examples: int = 0
    warmup_records: int = 0
    signatures: dict[str, SignatureReport] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    not_run: list[Check] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether every check was made and none failed."""
        return not self.findings and not self.not_run

    def refuse(self, check: Check, found: str, accepted: str, signature: str = "") -> None:
        """Adds a finding."""
        finding = Finding(check=check, found=found, accepted=accepted, signature=signature)
        if finding not in self.findings:
            self.findings.append(finding)

    def skip(self, *checks: Check) -> None:
        """Notes checks that cannot be made."""
        self.not_run.extend(check for check in checks if check not in self.not_run)

    def reasons(self) -> list[str]:
        """Returns why the model is refused, a line each."""
        lines = [str(finding) for finding in self.findings]
        if self.not_run:
            names = ", ".join(check.value for check in self.not_run)
            lines.append(f"canary: these checks could not be made: {names}")
        return lines

    def to_plain(self) -> dict[str, Any]:
        """Returns the report as values of JSON."""
        return asdict(self)
