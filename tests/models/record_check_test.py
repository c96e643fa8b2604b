"""Tests of finding the file and record that an input error is about."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from models.fitting import fit
from models.inputs import make_dataset, make_parser
from models.record_check import find_bad_record, find_cut_file
from models.training import TrainingError, TrainingLoop
from tests.models import tiny_training


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    return [tiny_training.write_rows(tmp_path / f"part_{n}", 20, n) for n in range(2)]


def find(files: list[str], **options: Any) -> str | None:
    return find_bad_record(files, make_parser(tiny_training.PLAN), **options)


def offsets(path: str) -> list[int]:
    """Byte at which each record begins: its length, two checksums and its bytes."""
    found = [0]
    for record in tf.data.TFRecordDataset(path):
        found.append(found[-1] + 16 + len(record.numpy()))
    return found


def test_good_files_have_no_bad_record(files: list[str]) -> None:
    assert find(files) is None


def test_a_truncated_file_is_named_with_the_record(files: list[str]) -> None:
    begins = offsets(files[1])
    with open(files[1], "r+b") as file:
        file.truncate(begins[13] + 20)
    assert find(files) == f"{files[1]}: record 14, at byte {begins[13]}, is truncated or corrupt"


def test_corrupt_bytes_are_named_with_the_record(files: list[str]) -> None:
    begins = offsets(files[0])
    with open(files[0], "r+b") as file:
        file.seek(begins[3] + 15)
        file.write(b"\xff\xff\xff")
    assert find(files) == f"{files[0]}: record 4, at byte {begins[3]}, is truncated or corrupt"


def test_a_truncated_compressed_file_is_named(tmp_path: Path) -> None:
    path = Path(tiny_training.write_rows(tmp_path / "part.gz", 200, 0))
    path.write_bytes(path.read_bytes()[:-2000])
    found = find([str(path)])
    assert found is not None
    assert found.startswith(f"{path}: ")


def cut_behind_record(path: Path, count: int) -> None:
    """Leaves a compressed file so that TensorFlow reads its first records and finds no fault."""
    records = [value.numpy() for value in tf.data.TFRecordDataset(str(path), "GZIP").take(count)]
    plain = str(path.with_suffix(".plain"))
    with tf.io.TFRecordWriter(plain) as file:
        for record in records:
            file.write(record)
    packer = zlib.compressobj(wbits=31)
    whole = packer.compress(Path(plain).read_bytes()) + packer.flush(zlib.Z_SYNC_FLUSH)
    path.write_bytes(whole if count else b"")
    assert len(list(tf.data.TFRecordDataset(str(path), "GZIP"))) == count


@pytest.mark.parametrize(("left", "fault"), [(9, "cut off behind its last"), (0, "empty")])
def test_training_with_fewer_examples_than_counted_names_the_file(
    tmp_path: Path, left: int, fault: str
) -> None:
    files, _ = tiny_training.make_files(tmp_path)
    factory = tiny_training.make_factory()
    assert TrainingLoop(factory, files, examples=64).run_epoch(1, "epoch 1").examples == 64
    cut_behind_record(tmp_path / "train_1.gz", left)
    expected = rf"has {35 + left} examples where SequenceProfile counted 64: .*train_1.gz: {fault}"
    with pytest.raises(TrainingError, match=expected):
        TrainingLoop(factory, files, examples=64).run_epoch(1, "epoch 1")


def test_a_validation_file_that_lost_its_end_is_named_before_training(tmp_path: Path) -> None:
    files, _ = tiny_training.make_files(tmp_path)
    whole = tiny_training.write_rows(tmp_path / "whole.gz", 40, 3)
    cut = tmp_path / "validation.gz"
    tiny_training.write_rows(cut, 40, 2)
    cut_behind_record(cut, 30)
    run_dir = tmp_path / "run"
    with pytest.raises(
        TrainingError, match=rf"validation split .*: {cut}: cut off behind its last"
    ):
        fit(tiny_training.make_factory(), files, [whole, str(cut)], run_dir=str(run_dir))
    assert not (run_dir / "checkpoints").exists()


def test_what_is_no_compressed_file_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "part.gz"
    path.write_bytes(b"no compressed file")
    assert find_cut_file([tiny_training.write_rows(tmp_path / "plain", 3, 0)]) is None
    found = find_cut_file([str(path)])
    assert found is not None
    assert found.startswith(f"{path}: damaged: ")


def test_a_split_without_examples_is_refused_when_it_is_evaluated(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    factory = tiny_training.make_factory()
    loop = TrainingLoop(factory, [], ranker=factory.make())
    with pytest.raises(TrainingError, match="validation split: it has no examples"):
        loop.evaluate([str(tmp_path / "empty")], "validation")


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (b"no example", "cannot be used"),
        (
            tiny_training.serialize(
                {
                    "item_id": [3], "category": [3], "fields": [2], "numbers": [0.0],
                    "history_item_id": [3, 4], "history_category": [3],
                    "history_action": [1, 1], "label": [1.0],
                }
            ),
            "history_category and history_item_id are lists of different lengths",
        ),
    ],
)  # fmt: skip
def test_a_record_that_cannot_be_parsed_is_named(
    tmp_path: Path, record: bytes, reason: str
) -> None:
    good = tiny_training.write_rows(tmp_path / "good", 6, 0)
    records = [value.numpy() for value in tf.data.TFRecordDataset(good)]
    bad = str(tmp_path / "bad")
    with tf.io.TFRecordWriter(bad) as file:
        for value in [*records[:4], record, *records[4:]]:
            file.write(value)
    found = find([good, bad])
    assert found is not None
    assert found.startswith(f"{bad}: record 5 cannot be used")
    assert reason in found


def test_the_search_ends_in_time(files: list[str]) -> None:
    assert find(files, search_seconds=0.0) == (
        "the first 0 of 2 files are good, the others unsearched"
    )


def test_training_on_a_truncated_file_names_it(tmp_path: Path) -> None:
    tiny_training.make_files(tmp_path)
    path = tmp_path / "train_0"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(TrainingError, match=r"train split cannot be read: .*train_0: record 35"):
        tiny_training.train(tmp_path, None)


def test_skipped_batches_are_those_of_the_same_order(files: list[str]) -> None:
    def numbers(skip: int) -> list[float]:
        dataset = make_dataset(
            files, tiny_training.PLAN, batch_size=4, shuffle_seed=5, shuffle_buffer=10,
            skip_batches=skip,
        )  # fmt: skip
        return [float(value) for batch in dataset for value in batch["numbers"][:, 0]]

    everything = numbers(0)
    assert len(everything) == 40
    for skip in (1, 7, 10):
        assert numbers(skip) == everything[4 * skip :]
