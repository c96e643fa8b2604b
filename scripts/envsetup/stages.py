"""Running the tools: one line a stage on the terminal, all they say in a log."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from envsetup.common import Refusal


class Stages:
    """One line a stage on the terminal, everything the tools say in the log."""

    def __init__(self, log: Path) -> None:
        self.log = log
        log.touch()
        self.started = time.monotonic()

    @contextlib.contextmanager
    def stage(self, title: str) -> Iterator[None]:
        start = time.monotonic()
        sys.stdout.write(f"  {title:<58}")
        sys.stdout.flush()
        try:
            yield
        except BaseException:
            sys.stdout.write("failed\n")
            sys.stdout.flush()
            raise
        sys.stdout.write(f"{time.monotonic() - start:6.1f} s\n")
        sys.stdout.flush()

    def run(self, command: Sequence[str | Path], why: str, env: Mapping[str, str]) -> str:
        """Run a tool, its output into the log; a failure becomes one refusal."""
        words = [str(word) for word in command]
        with self.log.open("a", encoding="utf-8") as log:
            log.write(f"\n$ {' '.join(words)}\n")
            log.flush()
            result = subprocess.run(
                words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                env=dict(env),
                check=False,
            )
            log.write(result.stdout)
        if result.returncode:
            raise Refusal(explain(why, result.stdout, self.log))
        return result.stdout


def explain(why: str, output: str, log: Path) -> str:
    """The likely cause of a failed tool (network, disk, signature) and its last words."""
    causes = (
        (r"No space left on device", "the disk is full."),
        (
            r"NO_PUBKEY|is not signed|couldn't be verified|GPG error",
            "the archive's signature could not be verified. Update the package "
            "debian-archive-keyring (a newer one knows the newer release's key) and try again.",
        ),
        (
            r"invalid peer certificate|CERTIFICATE_VERIFY_FAILED|certificate verify failed",
            "the registry's TLS certificate is not trusted here. Install ca-certificates, or name "
            "your network's certificate bundle with SSL_CERT_FILE=/path.",
        ),
        (
            r"dns error|Temporary failure|Could not resolve|resolve host|Connection refused|"
            r"error sending request|Network is unreachable|timed out|Failed to fetch|"
            r"NewConnectionError|Could not connect|tcp connect",
            "the package registry could not be reached. Set-up needs PyPI (or the mirror that "
            "pip's index-url names) and, on Debian 12, the Debian mirror that apt is set up with; "
            "a proxy is taken from HTTPS_PROXY and apt's own settings.",
        ),
    )
    for pattern, cause in causes:
        if re.search(pattern, output, re.IGNORECASE):
            return f"{why} failed: {cause}\n{last_words(output, 2)}\n  The whole log: {log}"
    return f"{why} failed:\n{last_words(output, 6)}\n  The whole log: {log}"


def last_words(output: str, count: int) -> str:
    lines = [line.strip() for line in output.strip().splitlines() if line.strip()]
    return "\n".join(f"    {line[:150]}" for line in lines[-count:])


def clean_environment(**extra: str) -> dict[str, str]:
    """The caller's variables without those that would redirect Python or uv elsewhere."""
    dropped = {"PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "VIRTUAL_ENV", "PIP_TARGET", "PIP_USER"}
    kept = {key: value for key, value in os.environ.items() if key not in dropped}
    return {**kept, "PIP_DISABLE_PIP_VERSION_CHECK": "1", **extra}
