"""Tests of what is found out before a pipeline is made."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from beam_jobs.errors import InputError
from beam_jobs.plan import latest_snapshot, snapshot_fingerprint
from beam_jobs.snapshot import REFUSED, Manifest
from models.warm_start_index import FOLDER, INDEX_FILE
from pipeline.config import RunConfig, load_config
from pipeline.prepare import (
    Prepared,
    find_schema,
    find_warm_start,
    prepare,
    source_hash,
)


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    path = tmp_path / "run.yaml"
    path.write_text(
        f"run: {{root: {tmp_path}/run}}\n"
        f"data: {{dataset: simulated, path: {tmp_path}/raw, generate: {{impressions: 2000}}}}\n"
    )
    return load_config(path)


def test_the_simulated_log_is_made_once(config: RunConfig) -> None:
    first = prepare(config)
    log = Path(config.data.path) / "simulation.json"
    made = log.stat().st_mtime_ns
    second = prepare(config)
    assert log.stat().st_mtime_ns == made
    assert first.fingerprint == second.fingerprint
    assert first.plan.snapshot is None
    assert first.schema.name.startswith("simulated-")
    assert first.schema.parent == first.root / "schemas"


def test_fingerprint_follows_data_side_files_and_settings(config: RunConfig) -> None:
    before = prepare(config).fingerprint
    items = Path(config.data.path) / "users.parquet"
    original = items.read_bytes()
    table = pq.read_table(items)
    pq.write_table(table.slice(1), items)
    assert prepare_again(config).fingerprint != before
    items.write_bytes(original)
    assert prepare_again(config).fingerprint == before


def prepare_again(config: RunConfig) -> Prepared:
    """Prepares without the generator, which would put back an edited log."""
    data = dataclasses.replace(config.data, generate=None)
    return prepare(dataclasses.replace(config, data=data))


def test_snapshot_fingerprint_follows_the_bytes(tmp_path: Path) -> None:
    snapshot = tmp_path / "snapshot"
    snapshot.mkdir()
    (snapshot / "manifest.json").write_text("{}")
    before = snapshot_fingerprint(str(snapshot))
    link = tmp_path / "current"
    link.symlink_to(snapshot)
    assert snapshot_fingerprint(str(link)) == before
    (snapshot / "manifest.json").write_text("[]")
    assert snapshot_fingerprint(str(link)) != before


def test_the_snapshot_of_a_refused_day_is_no_start(tmp_path: Path) -> None:
    for day in (1, 2):
        folder = tmp_path / f"snapshot-{day}"
        folder.mkdir()
        manifest = Manifest(
            format=1,
            dataset="x",
            protocol="all_exposure",
            max_length=5,
            last_time=day,
            fingerprint=f"log{day}-rest",
            parent=str(tmp_path / "snapshot-1") if day == 2 else None,
            columns={},
            actions=[],
        )
        (folder / "manifest.json").write_text(json.dumps(dataclasses.asdict(manifest)))
    assert latest_snapshot(str(tmp_path), "log3-rest") == str(tmp_path / "snapshot-2")
    (tmp_path / "snapshot-2" / REFUSED).touch()
    assert latest_snapshot(str(tmp_path), "log3-rest") == str(tmp_path / "snapshot-1")
    assert latest_snapshot(str(tmp_path), "log2-other") == str(tmp_path / "snapshot-1")


def test_a_missing_schema_says_how_to_get_one(config: RunConfig, tmp_path: Path) -> None:
    prepared = prepare(config)
    data = dataclasses.replace(config.data, schema=str(tmp_path / "absent.pbtxt"))
    with pytest.raises(InputError, match="propose-schema"):
        find_schema(dataclasses.replace(config, data=data), prepared.description)


@pytest.mark.parametrize("content", [b"name: shop\nlog: {files: [x]}\n", b"\xff\x00"])
def test_a_file_that_is_no_schema_is_named(
    config: RunConfig, tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "shop.yaml").write_bytes(content)
    data = dataclasses.replace(config.data, schema=str(tmp_path / "shop.yaml"))
    with pytest.raises(InputError, match=r"^data\.schema: .*shop\.yaml: a TensorFlow Metadata"):
        prepare(dataclasses.replace(config, data=data))


def test_an_edited_schema_has_another_path(config: RunConfig, tmp_path: Path) -> None:
    schema = tmp_path / "mine.pbtxt"
    schema.write_text("feature { name: 'label' }")
    data = dataclasses.replace(config.data, schema=str(schema))
    mine = dataclasses.replace(config, data=data)
    before = prepare(mine).schema
    assert before == prepare(mine).schema
    schema.write_text("feature { name: 'label' type: INT }")
    after = prepare(mine).schema
    assert after != before
    assert after.read_bytes() == schema.read_bytes()


def test_source_hash_tells_files_and_folders_apart() -> None:
    assert source_hash("schemas") == source_hash("schemas")
    assert len({source_hash("schemas"), source_hash("models"), source_hash("models/plan.py")}) == 3


def test_the_newest_model_of_another_log_is_started_from(config: RunConfig) -> None:
    def with_start(warm_start: str) -> RunConfig:
        train = dataclasses.replace(config.train, warm_start=warm_start)
        return dataclasses.replace(config, train=train)

    assert find_warm_start(with_start("none"), "today") == ""
    assert find_warm_start(with_start("latest"), "today") == ""
    for number, data in ((1, "two days ago"), (2, "yesterday"), (3, "today"), (4, None)):
        version = config.destination.resolve() / str(number)
        (version / FOLDER).mkdir(parents=True)
        (version / "saved_model.pb").touch()
        if data is not None:
            (version / FOLDER / INDEX_FILE).write_text(json.dumps({"data_fingerprint": data}))
    yesterday = str(config.destination.resolve() / "2")
    assert find_warm_start(with_start("latest"), "today") == yesterday
    assert find_warm_start(with_start(yesterday), "today") == yesterday
    # The same log under other settings, and a day that is run again after a later one.
    (config.destination.resolve() / "3" / FOLDER / INDEX_FILE).write_text(
        json.dumps({"data_fingerprint": "today-other"})
    )
    assert find_warm_start(with_start("latest"), "today-settings") == yesterday
    first = str(config.destination.resolve() / "1")
    assert find_warm_start(with_start("latest"), "yesterday") == first
    assert find_warm_start(with_start("latest"), "two days ago") == ""
    with pytest.raises(InputError, match=r"train.warm_start .*none, latest or the folder"):
        find_warm_start(with_start(str(config.destination.resolve() / "4")), "today")
