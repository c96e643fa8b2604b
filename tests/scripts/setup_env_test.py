"""The set-up script as a user runs it, on hosts that it must refuse and on one that is ready."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ("sh", "dirname", "ls", "sed", "sort", "paste", "uname", "env")


@pytest.fixture
def bare_path(tmp_path: Path) -> Path:
    """A folder for PATH with the basic tools and no Python."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in TOOLS:
        found = shutil.which(name)
        assert found, name
        (folder / name).symlink_to(found)
    return folder


def run_setup(venv: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", str(ROOT / "scripts/setup.sh")],
        env={**os.environ, "LENGTHWISE_VENV": str(venv), "LENGTHWISE_PYTHON": "", **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def replace_tool(folder: Path, name: str, script: str) -> None:
    (folder / name).unlink(missing_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    (folder / name).chmod(0o755)


def test_another_system_is_refused(bare_path: Path, tmp_path: Path) -> None:
    replace_tool(bare_path, "uname", "echo Darwin")
    result = run_setup(tmp_path / "venv", PATH=str(bare_path), PYENV_ROOT=str(tmp_path))
    assert result.returncode == 2
    assert result.stderr.startswith("lengthwise set-up cannot go on: this is Darwin")
    assert not (tmp_path / "venv").exists()


def test_a_host_without_python_is_told_which_to_install(bare_path: Path, tmp_path: Path) -> None:
    result = run_setup(tmp_path / "venv", PATH=str(bare_path), PYENV_ROOT=str(tmp_path))
    assert result.returncode == 2
    assert "this machine has no python3 at all" in result.stderr
    assert "apt-get install python3" in result.stderr


def test_a_host_with_an_unserved_python_is_told_the_served_ones(
    bare_path: Path, tmp_path: Path
) -> None:
    replace_tool(bare_path, "python3", '[ "$1" = -V ] && echo Python 3.9.2 || exit 1')
    result = run_setup(tmp_path / "venv", PATH=str(bare_path), PYENV_ROOT=str(tmp_path))
    assert result.returncode == 2
    assert "3.11" in result.stderr
    assert "this machine has Python 3.9.2" in result.stderr


def test_a_named_python_that_does_not_fit_is_not_silently_replaced(tmp_path: Path) -> None:
    result = run_setup(tmp_path / "venv", LENGTHWISE_PYTHON="/bin/false")
    assert result.returncode == 2
    assert "LENGTHWISE_PYTHON" in result.stderr


def test_a_folder_that_is_not_an_environment_is_left_alone(tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    venv.mkdir()
    (venv / "thesis.txt").write_text("my only copy", encoding="utf-8")
    base = Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info[1]}"
    result = run_setup(venv, LENGTHWISE_PYTHON=str(base))
    assert result.returncode == 2
    assert "is not a virtual environment" in result.stderr
    assert (venv / "thesis.txt").read_text(encoding="utf-8") == "my only copy"


@pytest.mark.skipif(
    not (Path(sys.prefix) / ".complete").is_file(), reason="not run from an environment of make"
)
def test_a_second_setup_is_over_at_once() -> None:
    check = [sys.executable, "-I", "-S", str(ROOT / "scripts/setup_env.py"), "--check"]
    if subprocess.run(check, check=False).returncode:
        pytest.skip("the environment is out of date; make setup")
    start = time.monotonic()
    result = run_setup(Path(sys.prefix))
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    # A bound on a hang, not a measurement: it takes 0.1 s on an idle machine.
    assert time.monotonic() - start < 10
