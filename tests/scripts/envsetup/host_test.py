from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

import pytest
from envsetup import host
from envsetup.common import GIB, Refusal


class Usage(NamedTuple):
    total: int
    used: int
    free: int


@pytest.mark.parametrize(
    ("system", "machine", "libc", "words"),
    [
        ("Darwin", "x86_64", None, "this is Darwin"),
        ("Linux", "aarch64", (2, 41), "this processor is aarch64"),
        ("Linux", "x86_64", None, r"not glibc \(musl"),
    ],
)
def test_a_platform_without_wheels_is_refused(
    system: str, machine: str, libc: tuple[int, int] | None, words: str
) -> None:
    with pytest.raises(Refusal, match=words) as refusal:
        host.check_platform(system, machine, libc)
    assert "Use " in str(refusal.value)


def test_a_platform_with_wheels_passes() -> None:
    assert host.check_platform("Linux", "x86_64", (2, 36)) == (2, 36)


def test_a_python_without_lock_is_refused_with_those_that_have_one(tmp_path: Path) -> None:
    for name in ("py311.lock", "py313.lock", "tools.lock"):
        (tmp_path / name).touch()

    assert host.check_python((3, 11), tmp_path) == tmp_path / "py311.lock"
    with pytest.raises(Refusal, match=r"Python 3\.9 .* served are 3\.11, 3\.13"):
        host.check_python((3, 9), tmp_path)


def test_a_full_disk_is_refused_before_anything_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10 * GIB, 9 * GIB, GIB))

    with pytest.raises(Refusal, match=r"1\.0 GiB free and set-up needs 4 GiB"):
        host.check_disk({tmp_path / "not" / "yet" / "there": 4 * GIB})
    host.check_disk({tmp_path: GIB})


def test_one_file_system_is_asked_for_the_larger_need_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10 * GIB, 5 * GIB, 5 * GIB))
    host.check_disk({tmp_path / "a": 4 * GIB, tmp_path / "b": 3 * GIB})


@pytest.mark.parametrize(
    ("libc", "libstdcxx", "private"),
    [
        ((2, 36), True, True),
        ((2, 38), True, True),
        ((2, 39), True, False),
        ((2, 41), True, False),
        ((2, 39), False, True),
    ],
)
def test_private_libraries_are_for_old_hosts_only(
    libc: tuple[int, int], libstdcxx: bool, private: bool
) -> None:
    assert host.needs_private_libraries(libc, libstdcxx) is private


def test_an_old_glibc_without_apt_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(Refusal, match=r"glibc 2\.28 .*apt-get, dpkg-deb not found"):
        host.check_donor((2, 28))


def test_an_old_glibc_on_another_distribution_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(host, "os_release", lambda: {"ID": "ubuntu"})
    with pytest.raises(Refusal, match="this is not Debian"):
        host.check_donor((2, 35))


def test_os_release_is_read_with_and_without_quotes(tmp_path: Path) -> None:
    path = tmp_path / "os-release"
    path.write_text('ID=debian\nVERSION_CODENAME="bookworm"\n', encoding="utf-8")
    assert host.os_release(path) == {"ID": "debian", "VERSION_CODENAME": "bookworm"}
    assert host.os_release(tmp_path / "absent") == {}
