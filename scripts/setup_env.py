"""Build the virtual environment `.venv` of this checkout, or say in one message why not.

Run through `make setup`. Standard library only, since it runs before anything is installed.

What it does, in order: checks the host; makes the environment with uv; on a glibc older than the
TFX wheels need, puts newer C and C++ libraries *inside* the environment and a copy of the
interpreter that uses them (the system is not touched, root is not needed); installs the locked
packages with their hashes checked; installs this checkout in development form; writes the
completion mark last.

A killed run leaves no completion mark, and the next run starts over from an empty folder. When
only the lock file changed, the packages are synchronised in place, under a mark that makes a
killed synchronisation start over too.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import platform
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

# Isolated mode (-I) leaves this folder off the path.
sys.path.insert(0, str(Path(__file__).resolve().parent))

from envsetup import host, mark
from envsetup.build import install_packages, make_base, uv_cache
from envsetup.common import GIB, REQUIREMENTS, VENV, Refusal
from envsetup.stages import Stages

DISK_VENV = 4 * GIB
DISK_CACHE = 3 * GIB
LOG_NAME = "setup.log"
EXIT_REFUSED = 2
EXIT_INTERRUPTED = 130


def set_up() -> None:
    libc = host.check_platform(platform.system(), platform.machine(), host.glibc_version())
    lock = host.check_python(sys.version_info[:2], REQUIREMENTS)
    private = host.needs_private_libraries(libc, host.libstdcxx_is_new_enough())
    if private:
        host.check_donor(libc)

    base_python = os.path.realpath(sys.executable)
    wanted = mark.fingerprint(lock, base_python, libc)
    VENV.parent.mkdir(parents=True, exist_ok=True)
    leftover = VENV.with_name(f"{VENV.name}.discarded")
    with (VENV.parent / f"{VENV.name}.lock").open("w") as guard:
        wait_for(guard)
        found = mark.read_mark(VENV)
        if all(found.get(key) == value for key, value in wanted.items()):
            return
        fresh = found.get("base") != wanted["base"]
        host.check_disk(
            {VENV: DISK_VENV if fresh else GIB, uv_cache(): DISK_CACHE if fresh else GIB}
        )
        discard(leftover)
        if fresh and VENV.exists():
            refuse_foreign(VENV)
            # Renamed first: a removal cut short must not look like a complete environment.
            os.rename(VENV, leftover)
            discard(leftover)
        VENV.mkdir(parents=True, exist_ok=True)
        stages = Stages(VENV / LOG_NAME)
        what = "Setting up" if fresh else "Updating"
        print(f"{what} {VENV}; details in {stages.log}", flush=True)
        if fresh:
            make_base(stages, private)
        install_packages(stages, lock)
        facts = {"python": base_python, "glibc": f"{libc[0]}.{libc[1]}"}
        (VENV / mark.IN_PROGRESS).unlink()
        mark.write_mark(VENV, {**wanted, **facts})
        print(f"Ready in {time.monotonic() - stages.started:.0f} s", flush=True)


def refuse_foreign(venv: Path) -> None:
    """Set-up removes only what a set-up made."""
    ours = (mark.COMPLETE, mark.IN_PROGRESS, LOG_NAME, "pyvenv.cfg")
    if any(venv.iterdir()) and not any((venv / name).exists() for name in ours):
        raise Refusal(f"{venv} exists and is not a virtual environment; move it away.")


def discard(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


def wait_for(guard: TextIO) -> None:
    """Hold the set-up lock; a second set-up waits and then finds the work done."""
    try:
        fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("Another set-up of this checkout is running; waiting for it.", flush=True)
        fcntl.flock(guard, fcntl.LOCK_EX)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Build the environment of this checkout.")
    parser.add_argument("--check", action="store_true", help="only say whether it is up to date")
    options = parser.parse_args(argv)
    if options.check:
        return mark.check_only()
    try:
        set_up()
    except Refusal as refusal:
        print(f"lengthwise set-up cannot go on: {refusal}", file=sys.stderr)
        return EXIT_REFUSED
    except KeyboardInterrupt:
        print("\nStopped; the next make setup starts over.", file=sys.stderr)
        return EXIT_INTERRUPTED
    except OSError as error:
        print(f"lengthwise set-up cannot go on: {error}", file=sys.stderr)
        return EXIT_REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main())
