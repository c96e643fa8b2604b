"""The import contract must break when a floor is broken, or it guards nothing."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULES = (
    "schemas/features.py",
    "beam_jobs/config.py",
    "models/config.py",
    "models/capabilities.py",
    "models/transform.py",
    "models/layers/attention.py",
    "models/backbones/din.py",
    "serving/client.py",
    "serving/client_support/config.py",
    "serving/deploy/config.py",
    "serving/loadtest/config.py",
    "serving/protocol/messages.py",
    "components/config.py",
    "pipeline/config.py",
    "pipeline/cli.py",
)


def lint(tmp_path: Path, module: str, line: str) -> tuple[int, list[str]]:
    """Exit code and broken contracts for a small tree in which `module` holds one import."""
    for name in {*MODULES, module}:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        for folder in path.relative_to(tmp_path).parents:
            if folder.name:
                (tmp_path / folder / "__init__.py").touch()
    (tmp_path / module).write_text(line + "\n", encoding="utf-8")
    (tmp_path / "pyproject.toml").write_text(
        (ROOT / "pyproject.toml").read_text(encoding="utf-8"), encoding="utf-8"
    )
    result = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Contracts:" in result.stdout, result.stdout + result.stderr
    return result.returncode, re.findall(r"^(.+?) BROKEN", result.stdout, re.MULTILINE)


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("components/config.py", "from pipeline import config"),
        ("models/config.py", "from beam_jobs import config"),
        ("beam_jobs/config.py", "from models import config"),
        ("serving/client.py", "from models import config"),
        ("models/config.py", "from serving import client"),
        ("schemas/features.py", "from models import config"),
        ("models/layers/attention.py", "import tensorflow_transform"),
        ("models/layers/attention.py", "import apache_beam"),
        ("models/backbones/din.py", "from tfx import types"),
        ("models/backbones/din.py", "import tensorflow_transform as tft"),
        ("models/ranker.py", "import tensorflow_transform as tft"),
        ("serving/client.py", "import tf_keras"),
        ("beam_jobs/histories.py", "import tensorflow as tf"),
        ("pipeline/config.py", "import tensorflow as tf"),
        ("serving/deploy/config.py", "import apache_beam as beam"),
        ("serving/client.py", "import tensorflow as tf"),
        ("serving/protocol/messages.py", "from tensorflow_serving.apis import predict_pb2"),
        ("components/config.py", "import apache_beam as beam"),
        ("pipeline/cli.py", "import tensorflow as tf"),
        ("models/capabilities.py", "import tensorflow as tf"),
        ("schemas/features.py", "import tensorflow as tf"),
    ],
)
def test_a_forbidden_import_breaks_the_contract(tmp_path: Path, module: str, line: str) -> None:
    code, broken = lint(tmp_path, module, line)

    assert code != 0
    assert broken


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("pipeline/config.py", "from components import config"),
        ("components/config.py", "from models import config"),
        ("models/layers/attention.py", "from tensorflow import keras"),
        ("models/transform.py", "import tensorflow_transform as tft"),
        ("serving/client.py", "from schemas import features"),
    ],
)
def test_an_allowed_import_keeps_it(tmp_path: Path, module: str, line: str) -> None:
    assert lint(tmp_path, module, line) == (0, [])
