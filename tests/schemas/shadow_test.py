from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from schemas.shadow import TOP_LEVEL_PACKAGES, ShadowedPackageError, check_not_shadowed

ROOT = Path(__file__).resolve().parents[2]


def run_check(*first_on_path: Path) -> subprocess.CompletedProcess[str]:
    """The check in a fresh interpreter, with folders put before the checkout on sys.path."""
    path = [str(folder) for folder in (*first_on_path, ROOT)]
    code = (
        f"import sys; sys.path[:0] = {path!r};"
        "from schemas.shadow import check_not_shadowed; check_not_shadowed()"
    )
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_the_checkout_is_not_shadowed() -> None:
    assert run_check().returncode == 0


@pytest.mark.parametrize("name", [name for name in TOP_LEVEL_PACKAGES if name != "schemas"])
def test_a_package_earlier_on_the_path_is_named_with_both_places(tmp_path: Path, name: str) -> None:
    other = tmp_path / name
    other.mkdir()
    (other / "__init__.py").touch()

    result = run_check(tmp_path)

    assert result.returncode != 0
    assert f"{name}: Python takes {other.resolve()}, not {ROOT / name}" in result.stderr
    assert "Uninstall or rename" in result.stderr


def test_a_module_file_shadows_too(tmp_path: Path) -> None:
    (tmp_path / "models.py").touch()

    result = run_check(tmp_path)

    assert f"models: Python takes {tmp_path.resolve() / 'models.py'}" in result.stderr


def test_a_missing_package_is_named(tmp_path: Path) -> None:
    with pytest.raises(ShadowedPackageError, match="no_such_package_of_ours: not found"):
        check_not_shadowed(["no_such_package_of_ours"], home=tmp_path)


def test_a_foreign_package_in_the_same_process_is_named(tmp_path: Path) -> None:
    with pytest.raises(ShadowedPackageError, match="email: Python takes"):
        check_not_shadowed(["email"], home=tmp_path)


def test_the_check_imports_nothing_heavy() -> None:
    code = (
        "import sys, schemas.shadow;"
        "heavy = {'numpy', 'pyarrow', 'tensorflow', 'apache_beam', 'yaml'} & set(sys.modules);"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
