"""Settings that must be in the environment before TensorFlow is first imported.

This file does not import TensorFlow itself: tests of plain Python stay fast.
"""

from __future__ import annotations

import fcntl
import os
import pickle
import shutil
import tempfile
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent

# tensorflow-recommenders, tft and tfma build on Keras 2.
os.environ["TF_USE_LEGACY_KERAS"] = "1"
# The suite is the same on a machine with an accelerator.
os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
# Two pytest workers share two cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "2")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "2")
# matplotlib neither looks for a display nor writes into the home folder.
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("MPLCONFIGDIR", os.path.join(tempfile.gettempdir(), "lengthwise-matplotlib"))


def pytest_configure(config: pytest.Config) -> None:
    # hypothesis: the same examples on every run and machine, and no deadline on a shared one.
    from hypothesis import HealthCheck, settings

    settings.register_profile(
        "lengthwise",
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.too_slow],
        database=None,
    )
    settings.load_profile("lengthwise")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, Any, Any]:
    # Collecting imports every framework there is.
    from schemas.imports import without_collection

    with without_collection():
        return (yield)


@pytest.fixture(scope="session")
def build_once(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str, Callable[[Path], Any]], Any]:
    """Builds what tests of several files need, once for all workers of a session.

    Called with a name and a function that fills a folder and returns what can be pickled; nobody
    may change what it built.
    """
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # That of the session; each worker has a folder of its own in it.

    def build(name: str, function: Callable[[Path], Any]) -> Any:
        place = folder / "built_once" / name
        result = place / "result.pickle"
        place.parent.mkdir(exist_ok=True)
        with place.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not result.exists():
                shutil.rmtree(place, ignore_errors=True)
                place.mkdir()
                content = pickle.dumps(function(place))
                partial = result.with_suffix(".partial")
                partial.write_bytes(content)
                partial.rename(result)
        return pickle.loads(result.read_bytes())

    return build


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder `shared/data` beside the checkout; tests that need it are skipped without it."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"needs the KuaiRand slice, which is not at {folder}")
    return folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Starts the long end-to-end files first, so that no worker is left waiting for them."""
    items.sort(key=lambda item: item.get_closest_marker("e2e") is None)
