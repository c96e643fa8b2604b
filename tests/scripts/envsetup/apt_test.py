from __future__ import annotations

from pathlib import Path

import pytest
from envsetup import apt
from envsetup.apt import choose_mirror
from envsetup.common import Refusal


def targets(key: Path | str = "") -> str:
    return (
        f"Packages main bookworm-security http://a.example/security {key}\n"
        f"Translations main bookworm http://b.example/debian {key}\n"
        f"Packages main bookworm http://b.example/debian {key}\n"
    )


def test_the_mirror_is_the_main_archive_of_this_release_with_its_own_key(tmp_path: Path) -> None:
    key = tmp_path / "key.gpg"
    key.touch()
    assert choose_mirror(targets(key), "bookworm") == ("http://b.example/debian", str(key))


def test_the_distribution_key_is_used_where_the_source_names_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = tmp_path / "debian.gpg"
    key.touch()
    monkeypatch.setattr(apt, "DEBIAN_KEYS", str(key))
    assert choose_mirror(targets(), "bookworm")[1] == str(key)


def test_a_missing_key_is_refused_rather_than_skipped(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="unsigned packages are not taken"):
        choose_mirror(targets(tmp_path / "absent.gpg"), "bookworm")


def test_no_archive_is_refused() -> None:
    with pytest.raises(Refusal, match="not set up with a main archive for Debian bookworm"):
        choose_mirror("", "bookworm")
