"""Test of ``run_fn`` as the chief of two workers, two processes on this machine."""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from models.plan import CUSTOM_CONFIG_KEY
from models.trainer import SUMMARY_FILE, run_fn
from models.workers.board import Board
from models.workers.cluster import Cluster
from models.workers.errors import WorkerError
from models.workers.member import take_part
from tests.models.conftest import TinyRun
from tests.models.workers.addresses import free_address

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def run_on_two(run: TinyRun, folder: Path) -> None:
    addresses = [free_address(), free_address()]
    plain = json.loads(run.custom_config[CUSTOM_CONFIG_KEY])
    plain["train"] |= {"workers": addresses, "max_epochs": 1}
    custom_config = {
        CUSTOM_CONFIG_KEY: json.dumps(plain),
        "checkpoints": str(folder / "checkpoints"),
        "workers": str(folder / "workers"),
    }
    cluster = Cluster(addresses=tuple(addresses), index=1)
    member = threading.Thread(target=take_part, args=(cluster, Board(folder / "workers")))
    member.start()
    time.sleep(0.5)
    run_fn(run.fn_args(folder, custom_config=custom_config))
    member.join()


def test_the_chief_exports_the_model_of_one_device(int_run: TinyRun, tmp_path: Path) -> None:
    plain = json.loads(int_run.custom_config[CUSTOM_CONFIG_KEY])
    plain["train"]["max_epochs"] = 1
    config = {CUSTOM_CONFIG_KEY: json.dumps(plain)}
    run_fn(int_run.fn_args(tmp_path / "one", custom_config=config))
    run_on_two(int_run, tmp_path / "two")
    summaries = [
        json.loads((tmp_path / name / "run" / SUMMARY_FILE).read_text()) for name in ("one", "two")
    ]
    one, two = summaries
    assert (one["devices"], two["devices"]) == (1, 2)
    assert two["validation"] == pytest.approx(one["validation"], rel=1e-3)
    assert two["epochs"][0]["loss"] == pytest.approx(one["epochs"][0]["loss"], rel=1e-4)
    variables = [
        tf.train.load_checkpoint(
            str(tmp_path / name / "model" / "Format-Serving" / "variables" / "variables")
        )
        for name in ("one", "two")
    ]
    names = [name for name in variables[0].get_variable_to_shape_map() if "ranker" in name]
    assert names
    one_device, two_workers = ([reader.get_tensor(name) for name in names] for reader in variables)
    # The bias of DIN's unit is the same for all events of a softmax, which takes it away: its
    # gradient is rounding, of which Adam makes steps.
    far = [
        np.abs(found - expected)
        for found, expected in zip(two_workers, one_device, strict=True)
        if np.abs(found - expected).max() > 1e-5
    ]
    assert len(far) <= 1
    assert all(difference.shape == (1,) and difference.max() < 1e-3 for difference in far)
    assert not (tmp_path / "two" / "checkpoints").exists()
    assert list((tmp_path / "two" / "run" / "tensorboard").iterdir())


def test_without_the_other_worker_the_error_names_it(
    int_run: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.workers.supervisor.JOIN_SECONDS", 5.0)
    monkeypatch.setattr(sys.modules[__name__], "take_part", lambda *_: None)
    began = time.monotonic()
    with pytest.raises(
        WorkerError, match=r"worker 1 \(127.* has not joined .*; there is no earlier one; start all"
    ):
        run_on_two(int_run, tmp_path)
    assert time.monotonic() - began < 60
    assert not (tmp_path / "model").exists()
