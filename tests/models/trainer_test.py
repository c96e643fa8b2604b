"""Tests of ``run_fn`` on files: what it learns, writes and refuses."""

from __future__ import annotations

import hashlib
import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from models.inputs import list_files
from models.plan import CUSTOM_CONFIG_KEY
from models.trainer import CHECKPOINT, SUMMARY_FILE, read_profile, run_fn
from models.training import TrainingError
from models.warm_start_index import read_index
from schemas.profile import SequenceProfile
from tests.models.conftest import TinyRun

ROOT = Path(__file__).resolve().parents[2]


def with_train(run: TinyRun, **train: Any) -> dict[str, str]:
    plain = json.loads(run.custom_config[CUSTOM_CONFIG_KEY])
    plain["train"].update(train)
    return {CUSTOM_CONFIG_KEY: json.dumps(plain)}


def weights_digest(folder: Path) -> str:
    (data,) = folder.glob(f"run/{CHECKPOINT}.data*")
    return hashlib.sha256(data.read_bytes()).hexdigest()


@pytest.fixture
def without_export(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves out the export, which takes longer than the training."""

    def make_folder(ranker: Any, transform_output: Any, directory: str, **_: Any) -> dict[str, int]:
        Path(directory).mkdir(parents=True)
        return {}

    monkeypatch.setattr("models.trainer.export_ranker", make_folder)


def test_it_learns_from_the_history(tiny_run: TinyRun) -> None:
    # The log's own probabilities reach 0.907; seeds 1 to 3 reach 0.83 to 0.89.
    assert tiny_run.summary["validation"]["auc"] > 0.75


def test_the_summary_is_complete_and_in_both_places(tiny_run: TinyRun) -> None:
    summary = tiny_run.summary
    beside = tiny_run.folder / "model" / SUMMARY_FILE
    assert json.loads(beside.read_text()) == summary
    assert [epoch["epoch"] for epoch in summary["epochs"]] == [1, 2]
    assert summary["epochs"][0]["examples"] == len(tiny_run.rows["train"])
    best = max(summary["epochs"], key=lambda epoch: epoch["validation"]["auc"])
    assert summary["chosen_epoch"] == best["epoch"]
    assert summary["validation"] == best["validation"]
    assert summary["parameters"]["tables"] == 8 * sum(
        size + 2 for size in summary["vocabulary_sizes"].values()
    )
    assert summary["config"]["model"]["embedding_dim"] == 8


@pytest.mark.usefixtures("without_export")
def test_same_seed_same_weights_bit_for_bit(int_run: TinyRun, tmp_path: Path) -> None:
    run_fn(int_run.fn_args(tmp_path / "same"))
    run_fn(int_run.fn_args(tmp_path / "other", custom_config=with_train(int_run, seed=8)))
    one, same, other = map(weights_digest, (int_run.folder, tmp_path / "same", tmp_path / "other"))
    assert one == same
    assert one != other


@pytest.mark.usefixtures("without_export")
def test_early_stopping_keeps_the_best_epoch(int_run: TinyRun, tmp_path: Path) -> None:
    config = with_train(int_run, max_epochs=20, patience=1, learning_rate=0.3)
    run_fn(int_run.fn_args(tmp_path, custom_config=config))
    summary = json.loads((tmp_path / "run" / SUMMARY_FILE).read_text())
    aucs = [epoch["validation"]["auc"] for epoch in summary["epochs"]]
    assert len(aucs) < 20
    assert aucs[-1] <= max(aucs[:-1])
    assert summary["validation"]["auc"] == max(aucs)


@pytest.mark.usefixtures("without_export")
def test_refit_trains_on_both_splits_for_the_chosen_epochs(
    int_run: TinyRun, tmp_path: Path
) -> None:
    config = with_train(int_run, refit=True, max_epochs=2)
    run_fn(int_run.fn_args(tmp_path, custom_config=config))
    summary = json.loads((tmp_path / "run" / SUMMARY_FILE).read_text())
    assert len(summary["refit_epochs"]) == summary["chosen_epoch"]
    rows = sum(len(rows) for rows in int_run.rows.values())
    assert summary["refit_epochs"][0]["examples"] == rows


def test_it_starts_from_an_exported_model_and_leaves_no_checkpoints(
    int_run: TinyRun, tmp_path: Path
) -> None:
    assert read_index(int_run.model)["weights_digest"]
    config = {
        **with_train(int_run, max_epochs=1, checkpoint_minutes=1e-3),
        "checkpoints": str(tmp_path / "checkpoints"),
        "warm_start": int_run.model,
    }
    run_fn(int_run.fn_args(tmp_path, custom_config=config))
    summary = json.loads((tmp_path / "run" / SUMMARY_FILE).read_text())
    rows = summary["warm_start"]["rows"]
    for name, entries in summary["vocabulary_sizes"].items():
        assert rows[name] == {"kept": entries, "new": 0, "dropped": 0}
    assert summary["warm_start"]["not_taken"] == {}
    assert summary["epochs"][0]["loss"] < int_run.summary["epochs"][0]["loss"]
    assert summary["resumed_from"] == ""
    assert not (tmp_path / "checkpoints").exists()
    assert list((tmp_path / "run" / "tensorboard").iterdir())


@pytest.mark.usefixtures("without_export")
def test_progress_is_reported(
    int_run: TinyRun, tmp_path: Path, caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("models.training.SECONDS_BETWEEN_PROGRESS", 0.0)
    with caplog.at_level(logging.INFO):
        run_fn(int_run.fn_args(tmp_path, custom_config=with_train(int_run, max_epochs=2)))
    reports = [r for r in caplog.records if r.name == "lengthwise.progress"]
    assert {record.message for record in reports} == {"train"}
    last = vars(reports[-1])
    assert (last["unit"], last["total"]) == ("examples", len(int_run.rows["train"]))
    assert "epoch 2/2, val AUC 0." in last["note"]
    epochs = [r.message for r in caplog.records if r.message.startswith(("epoch 1/2", "epoch 2/2"))]
    assert len(epochs) == 2


@pytest.mark.parametrize("split", ["train", "validation"])
def test_a_split_with_one_class_is_refused(split: str, int_run: TinyRun, tmp_path: Path) -> None:
    (tmp_path / "examples").mkdir()
    for path in list_files([int_run.files[split]], split=split):
        with tf.io.TFRecordWriter(str(tmp_path / "examples" / Path(path).stem)) as writer:
            for record in tf.data.TFRecordDataset(path, "GZIP").as_numpy_iterator():
                example = tf.train.Example.FromString(record)
                example.features.feature["label"].float_list.value[:] = [0.0]
                writer.write(example.SerializeToString())
    argument = {"train": "train_files", "validation": "eval_files"}[split]
    changed = int_run.fn_args(tmp_path, **{argument: [str(tmp_path / "examples" / "*")]})
    count = len(int_run.rows[split])
    with pytest.raises(TrainingError, match=f"{split} split: all {count} labels are 0"):
        run_fn(changed)
    assert not (tmp_path / "model").exists()


def test_a_loss_that_is_no_number_names_the_step(
    int_run: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from models.ranker import Ranker

    plain = Ranker.compute_loss
    monkeypatch.setattr(
        Ranker, "compute_loss", lambda self, *args, **kwargs: plain(self, *args, **kwargs) / 0.0
    )
    with pytest.raises(TrainingError, match="loss is inf at step 1 of epoch 1"):
        run_fn(int_run.fn_args(tmp_path))


def profile(**changes: Any) -> SequenceProfile:
    values: dict[str, Any] = {
        "examples": 2000, "max_length": 8, "length_mean": 4.0, "length_std": 2.0,
        "length_quantiles": {}, "total_length_quantiles": {}, "items": 11,
        "samples_per_item": 180.0, "proposed_length_edges": [],
        "proposed_density_edges": [], "length_bucket_shares": {}, "density_bucket_shares": {},
        "label_mean": 0.5,
    }  # fmt: skip
    return SequenceProfile(**{**values, **changes})


def test_the_profile_comes_as_a_path(int_run: TinyRun, tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    path.write_text(profile().to_json())
    by_path = int_run.fn_args(tmp_path, custom_config={"profile": str(path)})
    assert read_profile(by_path) == profile()
    assert read_profile(int_run.fn_args(tmp_path)) is None


def test_a_profile_with_one_class_stops_before_training(int_run: TinyRun, tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    path.write_text(profile(label_mean=1.0).to_json())
    custom_config = {**int_run.custom_config, "profile": str(path)}
    with pytest.raises(TrainingError, match="train split: all 2000 labels are 1"):
        run_fn(int_run.fn_args(tmp_path, custom_config=custom_config))


# Trains one epoch on as many logical devices as it is told and prints weights and loss.
DEVICES = """
import os, sys
os.environ["TF_USE_LEGACY_KERAS"] = "1"
sys.path.insert(0, {root!r})
import tensorflow as tf
count = int(sys.argv[1])
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * count)
import numpy as np, pickle
import tensorflow_transform as tft
from models import trainer
from models.inputs import list_files
from models.plan import read_run_config
from models.training import TrainingLoop
folder, config, train, validation = pickle.load(open(sys.argv[2], "rb"))
config = read_run_config(config)
strategy = trainer.make_strategy()
assert strategy.num_replicas_in_sync == count
factory = trainer.make_factory(config, tft.TFTransformOutput(folder), None)
loop = TrainingLoop(factory, list_files([train], split="train"))
epoch = loop.run_epoch(1, "epoch")
metrics = loop.evaluate(list_files([validation], split="validation"), "validation")
weights = [weight.numpy() for weight in loop.ranker.trainable_variables]
pickle.dump((weights, epoch.loss, epoch.examples, metrics), open(sys.argv[3], "wb"))
"""


def test_two_devices_train_the_same_model_as_one(int_run: TinyRun, tmp_path: Path) -> None:
    import pickle

    import numpy as np

    (tmp_path / "train.py").write_text(DEVICES.format(root=str(ROOT)))
    config = with_train(int_run, batch_size=96, learning_rate=1e-3)
    files = (int_run.graph, config, int_run.files["train"], int_run.files["validation"])
    (tmp_path / "config").write_bytes(pickle.dumps(files))
    results = []
    for count in (1, 2):
        process = subprocess.run(
            [
                sys.executable, str(tmp_path / "train.py"), str(count),
                str(tmp_path / "config"), str(tmp_path / f"out{count}"),
            ],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert process.returncode == 0, process.stderr[-3000:]
        results.append(pickle.loads((tmp_path / f"out{count}").read_bytes()))
    (weights, loss, examples, metrics), (other, other_loss, other_examples, other_metrics) = results
    assert examples == other_examples == len(int_run.rows["train"])
    assert other_loss == pytest.approx(loss, rel=1e-4)
    assert other_metrics["auc"] == pytest.approx(metrics["auc"], abs=1e-3)
    for one, two in zip(weights, other, strict=True):
        np.testing.assert_allclose(one, two, atol=2e-4)
