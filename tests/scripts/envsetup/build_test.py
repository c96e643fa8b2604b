from __future__ import annotations

from pathlib import Path

import pytest
from envsetup import build
from envsetup.common import REQUIREMENTS


def test_a_mirror_that_pip_was_given_is_handed_to_uv(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    pip = ["sh", "-c", "echo https://mirror.example/simple", "pip"]
    assert build.pip_index(pip) == {"UV_DEFAULT_INDEX": "https://mirror.example/simple"}
    assert build.pip_index(["sh", "-c", "exit 1"]) == {}
    monkeypatch.setenv("UV_DEFAULT_INDEX", "https://other.example/simple")
    assert build.pip_index(pip) == {}


def test_the_number_of_packages_is_read_from_the_lock(tmp_path: Path) -> None:
    lock = tmp_path / "some.lock"
    lock.write_text("# by uv\na==1 \\\n    --hash=sha256:00\nb.c-d==2\n", encoding="utf-8")
    assert build.count_packages(lock) == 2
    assert build.count_packages(REQUIREMENTS / "py311.lock") > 200
