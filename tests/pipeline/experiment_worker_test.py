"""The process of one task of an experiment."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_its_log_has_lines_and_not_the_states_of_bars(tmp_path: Path) -> None:
    (tmp_path / "task.json").write_text("{}")
    script = (
        "import logging, os, sys, types\n"
        "from pipeline.experiments import worker\n"
        "def work(task):\n"
        "    progress = logging.getLogger('lengthwise.progress')\n"
        "    progress.info('state of a bar', extra={'done': 3, 'total': 5})\n"
        "    progress.info('a line', extra={'line': 'a line'})\n"
        "    return {}\n"
        "task = types.SimpleNamespace(parent=os.getppid())\n"
        "worker.build, worker._do = (lambda *_, **__: task), work\n"
        f"sys.exit(worker.main({str(tmp_path / 'task.json')!r}, {str(tmp_path / 'out')!r}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "a line" in done.stderr
    assert "state of a bar" not in done.stderr
