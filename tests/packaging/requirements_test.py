"""The lock files against setup.py's ranges, and the one override among them."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
LOCKS = sorted((ROOT / "requirements").glob("*.lock"))
PYTHON_LOCKS = [path for path in LOCKS if re.fullmatch(r"py3\d+", path.stem)]


@pytest.fixture(scope="module")
def ranges() -> list[Requirement]:
    import setuptools

    arguments: dict[str, Any] = {}
    original = setuptools.setup
    setuptools.setup = lambda **given: arguments.update(given)
    try:
        runpy.run_path(str(ROOT / "setup.py"))
    finally:
        setuptools.setup = original
    extras = arguments["extras_require"]
    lines = [*arguments["install_requires"], *extras["pipeline"], *extras["dev"]]
    return [Requirement(line) for line in lines]


def pins(lock: Path) -> dict[str, str]:
    text = lock.read_text(encoding="utf-8")
    found = re.findall(r"^([A-Za-z0-9][\w.-]*)==(\S+)", text, re.MULTILINE)
    return {canonicalize_name(name): version for name, version in found}


def test_python_3_11_is_served() -> None:
    assert ROOT / "requirements" / "py311.lock" in PYTHON_LOCKS


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.stem)
def test_every_line_is_pinned_with_a_hash(lock: Path) -> None:
    text = re.sub(r"\s*#.*", "", lock.read_text(encoding="utf-8"))
    entries = re.sub(r"\\\n\s*", " ", text).split("\n")
    loose = [
        entry
        for entry in entries
        if entry.strip() and not re.match(r"\S+==\S+ .*--hash=sha256:[0-9a-f]{64}", entry)
    ]
    assert not loose


@pytest.mark.parametrize("lock", PYTHON_LOCKS, ids=lambda path: path.stem)
def test_the_lock_is_within_the_ranges(lock: Path, ranges: list[Requirement]) -> None:
    locked = pins(lock)
    outside = [
        f"{requirement} but {locked.get(canonicalize_name(requirement.name))}"
        for requirement in ranges
        if locked.get(canonicalize_name(requirement.name)) not in requirement.specifier
    ]
    assert not outside, "run make lock"


def test_the_overriding_farmhash_gives_the_fingerprints_of_the_one_it_replaces() -> None:
    farmhash = pytest.importorskip("farmhash")

    # Values of pyfarmhash 0.3.2.
    assert farmhash.fingerprint32("abc") == 795041479
    assert farmhash.fingerprint32("history_item_id") == 2790293031
    assert farmhash.fingerprint64("a" * 100) == 13153998191144080618
    assert farmhash.fingerprint64("") == 11160318154034397263
