"""What `lengthwise --help` and a config error import must not bring in a framework.

The import contract says so about our own modules; this sees what third-party packages do.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("tensorflow", "tf_keras", "keras", "tfx", "apache_beam", "tfx_bsl", "pyarrow", "pandas")
FLOORS = ("schemas", "beam_jobs", "models", "serving", "components", "pipeline")


def light_modules() -> list[str]:
    configs = [path for name in FLOORS for path in (ROOT / name).rglob("config.py")]
    files = [*configs, *(ROOT / "schemas").rglob("*.py"), ROOT / "models" / "capabilities.py"]
    files += [ROOT / "pipeline" / "cli.py"]
    return sorted(
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in files
        if path.is_file() and path.stem != "__init__"
    )


@pytest.mark.parametrize("module", light_modules())
def test_it_loads_without_a_framework(module: str) -> None:
    code = f"import json, sys, {module}; print(json.dumps(sorted(sys.modules)))"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert not set(HEAVY) & set(json.loads(result.stdout))
