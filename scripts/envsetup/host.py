"""What the host is, and the reasons not to go on."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from envsetup.common import GIB, Refusal

# The ml-metadata and tfdv 1.21 wheels are tagged manylinux_2_39 and need GCC 14's libstdc++.
GLIBC_NEEDED = (2, 39)
CXXABI_NEEDED = b"CXXABI_1.3.15"


def glibc_version() -> tuple[int, int] | None:
    """The C library this interpreter runs on, or None if it is not glibc (musl)."""
    try:
        text = os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (ValueError, OSError):
        return None
    match = re.fullmatch(r"glibc (\d+)\.(\d+).*", text)
    return (int(match[1]), int(match[2])) if match else None


def libstdcxx_is_new_enough() -> bool:
    """Whether the libstdc++ that the loader finds has the symbols of GCC 14."""
    try:
        ctypes.CDLL("libstdc++.so.6")
        maps = Path("/proc/self/maps").read_text(encoding="utf-8")
        path = re.search(r"(/\S*/libstdc\+\+\.so\.6\S*)", maps)
        return path is not None and CXXABI_NEEDED in Path(path[1]).read_bytes()
    except OSError:
        return False


def check_platform(system: str, machine: str, libc: tuple[int, int] | None) -> tuple[int, int]:
    """The glibc version; refuses a system for which the wheels do not exist."""
    if system != "Linux":
        raise Refusal(
            f"this is {system}; TFX's compiled packages exist for Linux on x86-64 only. Use a "
            "Linux machine, virtual machine or container (Debian 12 or later)."
        )
    if machine not in ("x86_64", "amd64"):
        raise Refusal(
            f"this processor is {machine}; ml-metadata, tfx-bsl and TensorFlow Data Validation "
            "1.21 are published for x86-64 only. Use an x86-64 machine or container."
        )
    if libc is None:
        raise Refusal(
            "this Python runs on a C library that is not glibc (musl, as on Alpine?); TFX's "
            "compiled packages need glibc. Use Debian 12 or later, or Ubuntu 24.04."
        )
    return libc


def check_python(version: tuple[int, int], locks: Path) -> Path:
    """The lock file for this Python, or a refusal naming the versions that are served."""
    lock = locks / f"py{version[0]}{version[1]}.lock"
    if not lock.is_file():
        served = sorted(path.stem for path in locks.glob("py3*.lock"))
        names = ", ".join(f"{stem[2]}.{stem[3:]}" for stem in served)
        raise Refusal(
            f"Python {version[0]}.{version[1]} ({sys.executable}) has no lock file in "
            f"requirements/; served are {names}. Name another with "
            "LENGTHWISE_PYTHON=/path/to/python."
        )
    return lock


def check_disk(needs: Mapping[Path, int]) -> None:
    """Refuse when a file system lacks the room for what will be written to it."""
    by_device: dict[int, tuple[Path, int]] = {}
    for folder, amount in needs.items():
        existing = folder
        while not existing.exists():
            existing = existing.parent
        device = existing.stat().st_dev
        known, total = by_device.get(device, (existing, 0))
        # The installer hard-links from its cache, so on one file system the larger need counts.
        by_device[device] = (known, max(total, amount))
    for folder, amount in by_device.values():
        free = shutil.disk_usage(folder).free
        if free < amount:
            raise Refusal(
                f"the file system of {folder} has {free / GIB:.1f} GiB free and set-up needs "
                f"{amount / GIB:.0f} GiB. Free some, or put the environment elsewhere with "
                "LENGTHWISE_VENV=/path and the download cache with UV_CACHE_DIR=/path."
            )


def needs_private_libraries(libc: tuple[int, int], libstdcxx_ok: bool) -> bool:
    return libc < GLIBC_NEEDED or not libstdcxx_ok


def check_donor(libc: tuple[int, int]) -> None:
    """Refuse an old glibc where Debian's newer libraries cannot be fetched."""
    missing = [name for name in ("apt-get", "dpkg-deb") if not shutil.which(name)]
    is_debian = os_release().get("ID") == "debian"
    if missing or not is_debian:
        reason = f"{', '.join(missing)} not found" if missing else "this is not Debian"
        raise Refusal(
            f"the C library here is glibc {libc[0]}.{libc[1]} and the TFX wheels need "
            f"{GLIBC_NEEDED[0]}.{GLIBC_NEEDED[1]} with GCC 14's libstdc++. Set-up can fetch them "
            f"into the environment on Debian only ({reason}). Use Debian 12 or later, Ubuntu "
            "24.04, or a container of one of these."
        )


def os_release(path: Path = Path("/etc/os-release")) -> dict[str, str]:
    if not path.is_file():
        return {}
    pairs = re.findall(r'^(\w+)="?([^"\n]*)"?$', path.read_text(encoding="utf-8"), re.MULTILINE)
    return dict(pairs)
