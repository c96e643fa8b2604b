"""Runs the command line as a process of its own, as its users do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
TIMEOUT = 900


def run_program(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs ``lengthwise`` with arguments to its end."""
    return subprocess.run(
        [sys.executable, "-m", "pipeline.cli", *arguments],
        cwd=ROOT,
        env={k: v for k, v in os.environ.items() if not k.startswith("PYTEST")},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
