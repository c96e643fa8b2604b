"""Memory and time of the examples job as the simulated log grows.

    python benchmarks/examples_scale.py FOLDER [--sizes 500000 5000000]

Simulates each log into FOLDER (about 1 GB at 5 million, and 10 GB for its examples, which are
removed) and runs the job on each, in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Runs the sizes and prints time per impression against the first."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sizes", type=int, nargs="+", default=[500_000, 5_000_000])
    arguments = parser.parse_args()
    base = None
    for size in arguments.sizes:
        settings = {
            "run.root": arguments.folder / "run",
            "data.path": arguments.folder / f"log-{size}",
            "data.generate.impressions": size,
        }
        command = [sys.executable, str(ROOT / "benchmarks" / "examples_overhead.py")]
        command += ["configs/demo.yaml", "--job", "beam"]
        command += [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        found = json.loads(done.stdout.splitlines()[-1])
        per_million = found["seconds"] / size * 1e6
        base = base or per_million
        print(
            f"{size:>10,} impressions: {found['seconds']:7.1f} s, {per_million:6.1f} s a million "
            f"({per_million / base:.2f} times the first), peak {found['peak_mb']:,.0f} MB",
            flush=True,
        )


if __name__ == "__main__":
    main()
