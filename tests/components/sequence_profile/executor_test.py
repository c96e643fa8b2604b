from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tfx.types import standard_artifacts

from components import artifacts
from components.sequence_profile import component, executor
from components.sequence_profile.profile import ProfileCounts
from schemas.profile import PROFILE_FILE, SequenceProfile

COLUMNS: dict[str, list[Any]] = {
    "label": [1, 0, 0, 1, 0, 0],
    "history_length": [0, 1, 2, 3, 4, 2],
    "history_length_total": [0, 1, 2, 30, 40, 2],
    "item_train_count": [3, 3, 3, 2, 2, 1],
    "history_item_id": [[], [1], [1, 2], [1, 2, 3], [1, 2, 3, 4], [5, 6]],
}
PROPERTIES = {
    "length_edges": "[1, 3]",
    "density_edges": "[2]",
    "max_length": 4,
}


def _run(
    folder: Path, make_artifact: Callable[..., Any], splits: tuple[str, ...] = ("train", "test")
) -> SequenceProfile:
    examples = make_artifact(standard_artifacts.Examples, folder / "examples", splits)
    examples.span = 7
    output = make_artifact(artifacts.SequenceProfile, folder / "profile")
    context = executor.Executor.Context(
        beam_pipeline_args=[
            "--runner=apache_beam.runners.portability.fn_api_runner.FnApiRunner",
            "--sdk_container_image=unused",
        ]
    )
    executor.Executor(context).Do({"examples": [examples]}, {"profile": [output]}, PROPERTIES)
    assert output.span == 7
    return SequenceProfile.read(folder / "profile" / PROFILE_FILE)


@pytest.mark.parametrize(
    "items", [[10, 10, 10, 11, 11, 12], [b"a", b"a", b"a", b"b", b"b", b"c"]], ids=["int", "bytes"]
)
def test_executor_profiles_the_train_split(
    tmp_path: Path,
    write_split: Callable[..., None],
    make_artifact: Callable[..., Any],
    items: list[Any],
) -> None:
    write_split(tmp_path / "examples", "train", {**COLUMNS, "item_id": items})
    write_split(tmp_path / "examples", "test", {"label": [1]})

    profile = _run(tmp_path, make_artifact)

    assert profile.examples == 6
    assert profile.items == 3
    assert profile.samples_per_item == 2
    assert profile.length_mean == 2
    assert profile.total_length_quantiles["0.99"] == 40
    assert profile.length_bucket_shares == pytest.approx({"0": 1 / 6, "1-2": 3 / 6, "3+": 2 / 6})
    assert profile.density_bucket_shares == pytest.approx({"0-1": 1 / 6, "2+": 5 / 6})
    assert profile.label_mean == pytest.approx(1 / 3)
    assert [path.name for path in (tmp_path / "profile").iterdir()] == [PROFILE_FILE]


def test_many_items_are_not_read_again_for_every_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    merge = ProfileCounts.merge

    def count(self: ProfileCounts, *others: ProfileCounts) -> ProfileCounts:
        read.append(sum(len(one.items.values) for one in (self, *others)))
        return merge(self, *others)

    monkeypatch.setattr(ProfileCounts, "merge", count)
    combine = executor.ProfileCombineFn()
    batches, rows = 256, 8
    accumulator = combine.create_accumulator()
    for start in range(0, batches * rows, rows):
        ones = np.ones(rows, np.int64)
        items = np.arange(start, start + rows, dtype=np.uint64)
        batch = ProfileCounts.of(
            lengths=ones, total_lengths=ones, densities=ones, items=items, labels=ones
        )
        accumulator = combine.add_input(accumulator, batch)
    merged = combine.extract_output(combine.merge_accumulators([accumulator, []]))

    assert len(merged.items.values) == merged.lengths.total == batches * rows
    # Each item is read once for every doubling, not once for every batch.
    assert sum(read) < batches * rows * 12


def test_executor_names_a_missing_feature(
    tmp_path: Path, write_split: Callable[..., None], make_artifact: Callable[..., Any]
) -> None:
    write_split(tmp_path / "examples", "train", COLUMNS)

    with pytest.raises(Exception, match="feature 'item_id': no example holds it"):
        _run(tmp_path, make_artifact, ("train",))


def test_executor_needs_a_train_split(tmp_path: Path, make_artifact: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match=r"no split 'train' among \['test'\]"):
        _run(tmp_path, make_artifact, ("test",))


def test_component_has_one_output_and_readable_properties() -> None:
    from tfx.types import channel

    built = component.SequenceProfile(
        channel.Channel(type=standard_artifacts.Examples),
        length_edges=(1, 5),
        density_edges=(2,),
        max_length=100,
        source_hash="abc",
    )

    assert built.outputs["profile"].type is artifacts.SequenceProfile
    properties = built.exec_properties
    assert json.loads(properties["length_edges"]) == [1, 5]
    assert properties["source_hash"] == "abc"
