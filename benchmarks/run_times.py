"""Time and memory of set-up, of `make run` and of a second run with nothing changed.

    python benchmarks/run_times.py FOLDER

Clones this checkout into FOLDER and calls there what the README says: `make setup`, then `make
run` twice. Memory is the largest resident size of any one process.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Runs the three commands and prints their figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    clone = parser.parse_args().folder / "lengthwise"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
    for title, target in (("setup", "setup"), ("make run", "run"), ("second run", "run")):
        start = time.perf_counter()
        done = subprocess.run(
            ["make", target], cwd=clone, capture_output=True, text=True, check=False
        )
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        print(done.stdout)
        print(f"{title}: code {done.returncode}, {seconds:.0f} s, peak {peak:,.0f} MB so far")
        if target == "run":
            summary = json.loads((clone / "runs/demo/summary.json").read_text(encoding="utf-8"))
            print(f"{title}: {summary['status']}, {summary['counters']['rows_read']:,} impressions")


if __name__ == "__main__":
    main()
