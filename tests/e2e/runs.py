"""Starts real runs of the pipeline on small simulated logs, for the end-to-end tests.

A run is a process of its own. Most are forked from one that has imported what every run imports,
which takes longer than many a run; :meth:`Workspace.run_program` starts the program as a
scheduler does.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
TIMEOUT = 900
SUMMARY = "summary.json"
TERMINAL = "terminal.txt"

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tests.e2e.preloaded"])

CONFIG = """
run: {name: e2e, root: ROOT/run}
data:
  dataset: simulated
  path: ROOT/raw
  generate: {impressions: 6000, seed: 3}
  history: {max_length: 50}
  length_edges: [5, 20]
  density_edges: [5, 50]
  shards: 2
model: {backbone: pooled, embedding_dim: 8, hidden_units: [16], length_groups: 2}
train: {max_epochs: 1, batch_size: 256}
evaluation:
  thresholds: {auc: {min: 0.2}}
  slice_thresholds: {auc: {min: 0.1}}
  min_slice_size: 200
  max_worsening: {auc: 0.5}
canary: {examples: 64, latency_calls: 20, latency_p99_ms: 20000, timeout_seconds: 600}
"""


class Workspace:
    """A folder with a configuration, raw data and the root of its runs."""

    def __init__(self, folder: Path, config: str = CONFIG):
        self.folder = folder
        self.root = folder / "run"
        self.config = folder / "config.yaml"
        self.config.write_text(config.replace("ROOT", str(folder)), encoding="utf-8")

    def run_program(self, *overrides: str) -> tuple[int, dict[str, Any], str]:
        """Runs ``python -m pipeline.cli run``; returns what :meth:`run` does."""
        done = subprocess.run(
            [sys.executable, "-m", "pipeline.cli", *self._arguments(overrides)],
            cwd=ROOT,
            env={k: v for k, v in os.environ.items() if not k.startswith("PYTEST")},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        return done.returncode, self._summary(), done.stdout

    def run(
        self,
        *overrides: str,
        file_limit: int | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> tuple[int, dict[str, Any], str]:
        """Runs to the end; returns exit code, summary and what the terminal showed.

        Args:
            overrides: changes of the configuration.
            file_limit: bounds the size of any file that the run writes, in bytes.
            environment: variables that the run has besides those of this process.
        """
        process = self._start(overrides, file_limit, environment)
        process.join(TIMEOUT)
        if process.exitcode is None:
            process.kill()
            raise AssertionError(f"not done in {TIMEOUT} s: {self._terminal()}")
        return process.exitcode, self._summary(), self._terminal()

    def kill_in(self, node: str, *overrides: str) -> None:
        """Starts a run and kills it, kill -9, when the node has begun."""
        before = self._executions(node)
        process = self._start(overrides)
        deadline = time.monotonic() + TIMEOUT
        while self._executions(node) <= before:
            if not process.is_alive():
                raise AssertionError(f"ended before {node}: {self._terminal()}")
            if time.monotonic() > deadline:
                process.kill()
                raise AssertionError(f"{node} did not begin in {TIMEOUT} s")
            time.sleep(0.05)
        process.kill()
        process.join()

    def stop_after(self, seconds: float, number: signal.Signals, *overrides: str) -> int:
        """Starts a run and sends it a signal, if it has not ended before; returns its exit code."""
        process = self._start(overrides)
        process.join(seconds)
        if process.exitcode is None and process.pid is not None:
            os.kill(process.pid, number)
        process.join(TIMEOUT)
        if process.exitcode is None:
            process.kill()
            raise AssertionError(f"not ended {TIMEOUT} s after {number.name}: {self._terminal()}")
        return process.exitcode

    def _start(
        self,
        overrides: Sequence[str],
        file_limit: int | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> BaseProcess:
        values = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")}
        values.update(environment or {})
        arguments = self._arguments(overrides)
        process = FORKS.Process(
            target=_run_command, args=(arguments, self.folder / TERMINAL, file_limit, values)
        )
        process.start()
        return process

    def _arguments(self, overrides: Sequence[str]) -> list[str]:
        summary = self.folder / SUMMARY
        summary.unlink(missing_ok=True)
        changes = [part for override in overrides for part in ("--set", override)]
        return ["run", str(self.config), "--summary", str(summary), *changes]

    def _summary(self) -> dict[str, Any]:
        path = self.folder / SUMMARY
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    def _terminal(self) -> str:
        return (self.folder / TERMINAL).read_text(encoding="utf-8")

    def versions(self) -> list[str]:
        """Numbered model versions that a server would find."""
        folder = self.root / "serving"
        return sorted(p.name for p in folder.glob("*") if p.name.isdigit())

    def transformed(self, split: str) -> dict[str, bytes]:
        """The last transformed examples: files by name, the order they are read in."""
        files = (self._last("Transform", "transformed_examples") / f"Split-{split}").iterdir()
        return {file.name: file.read_bytes() for file in sorted(files)}

    def trained(self) -> tuple[bytes, list[dict[str, Any]]]:
        """The last best weights, and what the epochs gave but for times."""
        folder = self._last("Trainer", "model_run")
        [weights] = folder.glob("best_weights.data-*")
        summary = json.loads((folder / "training_summary.json").read_text(encoding="utf-8"))
        epochs = [
            {name: epoch[name] for name in ("examples", "loss", "label_mean", "validation")}
            for epoch in summary["epochs"]
        ]
        return weights.read_bytes(), epochs

    def _last(self, node: str, output: str) -> Path:
        """The output of the last execution of a node."""
        folders = (self.root / "pipeline" / node / output).iterdir()
        return max(folders, key=lambda folder: int(folder.name))

    def _executions(self, node: str) -> int:
        return len(list((self.root / "pipeline" / node).glob("*/*")))


def _run_command(
    arguments: list[str], terminal: Path, file_limit: int | None, environment: dict[str, str]
) -> None:
    """Runs the command line in a forked process, its terminal being a file."""
    os.chdir(ROOT)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["lengthwise", *arguments]
    with terminal.open("wb") as shown:
        os.dup2(shown.fileno(), sys.stdout.fileno())
        os.dup2(shown.fileno(), sys.stderr.fileno())
    if file_limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))
    from pipeline.cli import main

    sys.exit(main(arguments))
