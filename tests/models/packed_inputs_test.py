"""Tests of reading packed examples, and of training on them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

from models.fitting import fit
from models.inputs import make_dataset, make_parser, rows_per_record
from models.packing import unpack_history
from models.plan import NUMBERS, WINDOW_END, WINDOW_START
from models.record_check import find_bad_record
from models.training import TrainingLoop
from tests.models import tiny_training
from tests.models.packed_rows import make_rows, write

PACKED = dataclasses.replace(tiny_training.PLAN, packed=True)
ROWS = make_rows(60)

# Tracing a training step takes minutes on a machine that is busy.
pytestmark = pytest.mark.timeout(1800)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """The same rows packed and one by one, in two files each."""
    folder = tmp_path_factory.mktemp("packed")
    found: dict[str, list[str]] = {"packed": [], "single": []}
    for part in range(2):
        rows = make_rows(40, seed=part)
        found["packed"].append(write(folder / f"packed_{part}", rows.packed(6)))
        found["single"].append(write(folder / f"single_{part}", rows.batch))
    return found


def make_factory(backbone: str, *, packed: bool, **train: Any) -> Any:
    model = {"backbone": backbone, "attention_units": [4], "dropout": 0, "embedding_dropout": 0}
    factory = tiny_training.make_factory(model, train)
    return dataclasses.replace(factory, plan=PACKED if packed else tiny_training.PLAN)


def test_rows_are_those_of_single_examples(files: dict[str, list[str]]) -> None:
    [single] = make_dataset(files["single"], tiny_training.PLAN, batch_size=10_000)
    [packed] = make_dataset(files["packed"], PACKED, batch_size=10_000)
    histories = tiny_training.PLAN.history_lists
    # Files take turns in the two, so the rows are put in an order of their own.
    orders = [np.lexsort(np.array([b["item_id"], b["fields"][:, 0], b[NUMBERS][:, 0]]))
              for b in (packed, single)]  # fmt: skip
    for name, expected in single.items():
        found = unpack_history(packed[name], packed) if name in histories else packed[name]
        ours, theirs = (
            tf.gather(values, order)
            for values, order in zip((found, expected), orders, strict=True)
        )
        if name in histories:
            assert ours.to_list() == theirs.to_list(), name
        else:
            np.testing.assert_array_equal(ours, theirs, err_msg=name)


def test_a_batch_has_the_wanted_rows_on_average(files: dict[str, list[str]]) -> None:
    sizes = [
        int(tf.size(batch["label"]))
        for batch in make_dataset(files["packed"], PACKED, batch_size=32, shuffle_seed=1)
    ]
    assert rows_per_record(files["packed"]) > 2
    assert np.mean(sizes[:-1]) == pytest.approx(32, rel=0.15)


def test_skipped_batches_are_those_of_the_same_order(files: dict[str, list[str]]) -> None:
    def numbers(skip: int) -> list[list[float]]:
        dataset = make_dataset(
            files["packed"], PACKED, batch_size=16, shuffle_seed=5, skip_batches=skip
        )
        return [batch[NUMBERS].numpy().ravel().tolist() for batch in dataset]

    assert numbers(3) == numbers(0)[3:]


def test_a_training_that_goes_on_ends_with_the_same_weights(files: dict[str, list[str]]) -> None:
    class StopError(Exception):
        pass

    def weights(loop: TrainingLoop) -> list[np.ndarray]:
        return [weight.numpy() for weight in loop.ranker.weights]

    whole = TrainingLoop(make_factory("din", packed=True, batch_size=64), files["packed"])
    epoch = whole.run_epoch(1, "whole")
    stopped = TrainingLoop(make_factory("din", packed=True, batch_size=64), files["packed"])
    kept: list[Any] = []

    def stop(tally: Any) -> None:
        if tally.steps == 3:
            kept.append(dataclasses.replace(tally))
            raise StopError

    with pytest.raises(StopError):
        stopped.run_epoch(1, "stopped", checkpoint=stop, checkpoint_due=lambda: True)
    resumed = stopped.run_epoch(1, "resumed", tally=kept[0])
    assert (resumed.examples, resumed.loss) == (epoch.examples, epoch.loss)
    for ours, theirs in zip(weights(stopped), weights(whole), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_training_and_refit_learn_from_every_row(
    files: dict[str, list[str]], tmp_path: Path
) -> None:
    results = {
        kind: fit(
            make_factory("pooled", packed=kind == "packed", batch_size=10_000, max_epochs=1),
            files[kind][:1],
            files[kind][1:],
            run_dir=str(tmp_path / kind),
        )
        for kind in ("packed", "single")
    }
    packed, single = results["packed"], results["single"]
    assert packed.epochs[0].examples == single.epochs[0].examples
    # One step a training: the same rows in one batch, so the same loss and the same weights.
    for ours, theirs in (
        (packed.epochs[0], single.epochs[0]),
        (packed.refit_epochs[0], single.refit_epochs[0]),
    ):
        assert ours.loss == pytest.approx(theirs.loss, rel=1e-5)
    for name, value in single.epochs[0].validation.items():
        assert packed.epochs[0].validation[name] == pytest.approx(value, rel=1e-4), name


@pytest.mark.parametrize(
    ("name", "change", "fault"),
    [
        (WINDOW_END, lambda ends: [*ends[:-1], ends[-1] + 9], "outside of the events"),
        (WINDOW_START, lambda starts: [-1, *starts[1:]], "outside of the events"),
        (WINDOW_END, lambda ends: [], "window"),
        ("label", lambda labels: [*labels, 1.0], "label does not have as many values"),
        ("history_category", lambda events: [*events, 1], "lists of different lengths"),
    ],
)
def test_a_bad_packed_record_is_named(tmp_path: Path, name: str, change: Any, fault: str) -> None:
    packed = ROWS.packed(6)
    values = packed.column(name).to_pylist()
    values[7] = change(values[7])
    columns = {each: packed.column(each) for each in packed.schema.names}
    columns[name] = pa.array(values, packed.column(name).type)
    path = write(tmp_path / "bad", pa.record_batch(columns))
    found = find_bad_record([path], make_parser(PACKED))
    assert found is not None
    assert "bad: record 8 cannot be used" in found
    assert fault in found


def test_files_that_cannot_be_read_do_not_stop_the_counting(
    tmp_path: Path, files: dict[str, list[str]]
) -> None:
    damaged = tmp_path / "damaged"
    damaged.write_bytes(Path(files["packed"][0]).read_bytes()[:-7])
    assert rows_per_record([str(damaged), files["packed"][1]]) == pytest.approx(
        rows_per_record(files["packed"]), rel=0.3
    )
    assert rows_per_record([str(tmp_path / "nothing")]) == 1.0
