"""What ends up in the wheel and in the source archive that Beam sends to its workers."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("beam_jobs", "components", "models", "pipeline", "schemas", "serving")
DATA_SUFFIXES = {".yaml", ".yml", ".pbtxt"}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout, with files planted that must stay out."""
    copy = tmp_path_factory.mktemp("checkout")
    leave = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in (*PACKAGES, "configs", "tests", "benchmarks"):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, ignore=leave)
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        if (ROOT / name).is_file():
            shutil.copy2(ROOT / name, copy / name)
    for name in ("tests", "benchmarks"):
        (copy / name).mkdir(exist_ok=True)
        (copy / name / "__init__.py").touch()
        (copy / name / "planted.yaml").touch()
    (copy / "configs").mkdir(exist_ok=True)
    (copy / "configs" / "planted.yaml").touch()
    (copy / "schemas" / "curated").mkdir(exist_ok=True)
    (copy / "schemas" / "curated" / "planted.pbtxt").touch()
    return copy


def run_setup(folder: Path, *arguments: str) -> None:
    result = subprocess.run(
        [sys.executable, "setup.py", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]


@pytest.fixture(scope="module")
def wheel_names(checkout: Path) -> set[str]:
    run_setup(checkout, "-q", "bdist_wheel", "--dist-dir", "wheels")
    (wheel,) = (checkout / "wheels").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def package_files(checkout: Path, suffixes: set[str]) -> set[str]:
    return {
        str(path.relative_to(checkout))
        for name in (*PACKAGES, "configs")
        for path in (checkout / name).rglob("*")
        if path.suffix in suffixes
    }


def test_the_wheel_has_every_module(checkout: Path, wheel_names: set[str]) -> None:
    modules = package_files(checkout, {".py"})
    assert "schemas/shadow.py" in modules
    assert modules <= wheel_names


def test_the_wheel_carries_yaml_and_pbtxt(checkout: Path, wheel_names: set[str]) -> None:
    data = package_files(checkout, DATA_SUFFIXES)
    assert {"schemas/curated/planted.pbtxt", "configs/planted.yaml"} <= data
    assert any(name.startswith("schemas/datasets/") for name in data)
    assert data <= wheel_names


def test_the_wheel_has_nothing_but_our_packages(wheel_names: set[str]) -> None:
    top = {name.split("/")[0] for name in wheel_names}
    unexpected = {name for name in top if not name.endswith(".dist-info")}
    assert unexpected <= {*PACKAGES, "configs"}


def test_the_wheel_has_the_command(checkout: Path, wheel_names: set[str]) -> None:
    (wheel,) = (checkout / "wheels").glob("*.whl")
    (entry,) = (name for name in wheel_names if name.endswith("entry_points.txt"))
    with zipfile.ZipFile(wheel) as archive:
        assert "lengthwise = pipeline.cli:main" in archive.read(entry).decode()


def test_a_wheel_built_from_the_source_archive_is_the_same(
    checkout: Path, wheel_names: set[str], tmp_path: Path
) -> None:
    # Beam runs `setup.py sdist` and each worker installs the result.
    run_setup(checkout, "-q", "sdist", "--dist-dir", "archives")
    (archive,) = (checkout / "archives").glob("*.tar.gz")
    with tarfile.open(archive) as source:
        names = source.getnames()
    shutil.unpack_archive(archive, tmp_path)
    assert not [name for name in names if "/tests/" in name or "/benchmarks/" in name]
    (unpacked,) = tmp_path.iterdir()

    run_setup(unpacked, "-q", "bdist_wheel", "--dist-dir", "wheels")

    (wheel,) = (unpacked / "wheels").glob("*.whl")
    with zipfile.ZipFile(wheel) as rebuilt:
        assert set(rebuilt.namelist()) == wheel_names
