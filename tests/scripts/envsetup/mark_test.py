from __future__ import annotations

from pathlib import Path

import pytest
from envsetup import mark


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for the checkout: three requirement files and setup.py."""
    requirements = tmp_path / "requirements"
    requirements.mkdir()
    for name in ("py311.lock", "tools.lock", "build.lock"):
        (requirements / name).write_text("# made by a tool\nname==1\n", encoding="utf-8")
    (tmp_path / "setup.py").write_text("setup()\n", encoding="utf-8")
    monkeypatch.setattr(mark, "ROOT", tmp_path)
    monkeypatch.setattr(mark, "REQUIREMENTS", requirements)
    monkeypatch.setattr(mark, "VENV", tmp_path / ".venv")
    return tmp_path


def fingerprint(checkout: Path, libc: tuple[int, int] = (2, 36)) -> dict[str, str]:
    return mark.fingerprint(checkout / "requirements/py311.lock", "/usr/bin/python3.11", libc)


def test_a_mark_is_read_back(tmp_path: Path) -> None:
    mark.write_mark(tmp_path, {"base": "a", "packages": "b"})
    assert mark.read_mark(tmp_path) == {"base": "a", "packages": "b"}


@pytest.mark.parametrize("text", ["", '{"base": "a"', "[]", "\0"])
def test_a_damaged_mark_counts_as_none(tmp_path: Path, text: str) -> None:
    (tmp_path / mark.COMPLETE).write_text(text, encoding="utf-8")
    assert mark.read_mark(tmp_path) == {}


def test_a_folder_without_mark_counts_as_incomplete(tmp_path: Path) -> None:
    assert mark.read_mark(tmp_path) == {}


def test_a_synchronisation_cut_short_voids_the_mark(tmp_path: Path) -> None:
    mark.write_mark(tmp_path, {"base": "a"})
    (tmp_path / mark.IN_PROGRESS).touch()
    assert mark.read_mark(tmp_path) == {}


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("requirements/py311.lock", "packages"),
        ("requirements/build.lock", "packages"),
        ("setup.py", "packages"),
        ("requirements/tools.lock", "base"),
    ],
)
def test_an_edit_changes_the_part_that_it_should(checkout: Path, name: str, changed: str) -> None:
    before = fingerprint(checkout)
    (checkout / name).write_text("name==2\n", encoding="utf-8")
    after = fingerprint(checkout)

    assert {key for key in before if before[key] != after[key]} == {changed}


def test_a_comment_changes_nothing(checkout: Path) -> None:
    before = fingerprint(checkout)
    (checkout / "requirements/tools.lock").write_text("# again\nname==1\n", encoding="utf-8")
    assert fingerprint(checkout) == before


def test_another_c_library_or_place_asks_for_a_rebuild(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = fingerprint(checkout)
    assert fingerprint(checkout, libc=(2, 41))["base"] != before["base"]
    monkeypatch.setattr(mark, "VENV", checkout / "moved")
    assert fingerprint(checkout)["base"] != before["base"]
