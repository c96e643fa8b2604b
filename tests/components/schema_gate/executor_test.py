"""The gate behind TFX's own StatisticsGen and ExampleValidator, on files."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx.components.example_validator import executor as validator
from tfx.components.statistics_gen import executor as statistics_gen
from tfx.types import channel, standard_artifacts
from tfx.utils import json_utils

from components import artifacts
from components.errors import DataRefused
from components.schema_gate import component, executor
from components.schema_gate.propose import propose_schema
from schemas.loading import ConfigError

RUNNER = [
    "--runner=apache_beam.runners.portability.fn_api_runner.FnApiRunner",
    "--sdk_container_image=unused",
]
SPLITS = ("train", "validation", "test")


def _columns(rows: int = 40) -> dict[str, list[Any]]:
    histories = [list(range(row % 5)) for row in range(rows)]
    return {
        "label": [row % 2 for row in range(rows)],
        "user_id": [1000 + row for row in range(rows)],
        "item_id": [b"item%d" % (row % 7) for row in range(rows)],
        "timestamp": [1_700_000_000_000 + row for row in range(rows)],
        "history_length": [len(history) for history in histories],
        "history_length_total": [10 * len(history) for history in histories],
        "item_train_count": [3] * rows,
        "length_bucket": [b"0-4"] * rows,
        "density_bucket": [b"1-4"] * rows,
        "history_item_id": [[b"item%d" % one for one in history] for history in histories],
        "history_action": [[1 + one for one in history] for history in histories],
        "country": [[b"de", b"fr", b""][row % 3] for row in range(rows)],
        "category": [[-1, 4, 8][row % 3] for row in range(rows)],
        "duration": [[] if row % 4 == 0 else float(row) for row in range(rows)],
    }


class Gate:
    """Runs statistics, validation and gate over the splits in a folder."""

    def __init__(self, folder: Path, make_artifact: Callable[..., Any]) -> None:
        self.folder = folder
        self._make = make_artifact

    def run(self, schema: str, max_length: int = 4, allow_empty: str = "[]") -> dict[str, Any]:
        examples = self._make(standard_artifacts.Examples, self.folder / "examples", SPLITS)
        statistics = self._make(standard_artifacts.ExampleStatistics, self.folder / "statistics")
        anomalies = self._make(standard_artifacts.ExampleAnomalies, self.folder / "anomalies")
        schemas = self._make(standard_artifacts.Schema, self.folder / "schema")
        approval = self._make(artifacts.DataApproval, self.folder / "approval")
        (self.folder / "schema").mkdir(exist_ok=True)
        (self.folder / "schema" / "schema.pbtxt").write_text(schema)
        context = statistics_gen.Executor.Context(beam_pipeline_args=RUNNER)
        nothing = {"exclude_splits": json_utils.dumps([])}
        statistics_gen.Executor(context).Do(
            {"examples": [examples]}, {"statistics": [statistics]}, nothing
        )
        inputs = {"statistics": [statistics], "schema": [schemas]}
        validator.Executor().Do(inputs, {"anomalies": [anomalies]}, nothing)
        executor.Executor().Do(
            {**inputs, "anomalies": [anomalies]},
            {"approval": [approval]},
            {"max_length": max_length, "allow_empty": allow_empty},
        )
        content: dict[str, Any] = json.loads(
            (self.folder / "approval" / "schema_gate.json").read_text()
        )
        return content


@pytest.fixture
def gate(tmp_path: Path, make_artifact: Callable[..., Any]) -> Gate:
    return Gate(tmp_path, make_artifact)


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory, write_split: Callable[..., None]) -> str:
    folder = tmp_path_factory.mktemp("proposal")
    write_split(folder, "train", _columns())
    temporary = tmp_path_factory.mktemp("temporary")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(temporary))
        proposed = propose_schema(folder)
    assert not list(temporary.iterdir())
    return proposed


def test_data_like_the_proposal_passes(
    gate: Gate, write_split: Callable[..., None], schema: str
) -> None:
    for split in SPLITS:
        write_split(gate.folder / "examples", split, _columns(20 if split == "test" else 40))

    content = gate.run(schema)

    assert content == {
        "status": "approved",
        "examples": {"train": 40, "validation": 40, "test": 20},
        "warnings": [],
    }


def test_every_reason_is_in_the_refusal(
    gate: Gate, write_split: Callable[..., None], schema: str
) -> None:
    bad = _columns()
    bad["label"] = [1] * 40
    bad["history_length"] = [-1, *bad["history_length"][1:]]
    bad["duration"] = [float("nan")] * 40
    bad["country"] = [7] * 40
    for split in SPLITS:
        write_split(gate.folder / "examples", split, bad if split == "test" else _columns())

    with pytest.raises(DataRefused) as refused:
        gate.run(schema, max_length=3)

    text = str(refused.value)
    assert text.startswith("the data was refused for 13 reasons:\n  - train, feature ")
    assert "test, feature 'label': every value is 1" in text
    assert "test, feature 'history_length': Out-of-range values" in text
    assert "test, feature 'duration': Invalid values: Float feature has NaN values." in text
    assert "test, feature 'country': Unexpected data type: Expected data of type: BYTES" in text
    assert "train, feature 'history_item_id': the longest list has 4 values, at most 3" in text
    assert not (gate.folder / "approval").exists()


def test_a_proposed_schema_follows_the_contract(schema: str) -> None:
    proposed = text_format.Parse(schema, schema_pb2.Schema())
    by_name = {feature.name: feature for feature in proposed.feature}

    assert set(by_name) == set(_columns())
    assert (by_name["label"].int_domain.min, by_name["label"].int_domain.max) == (0, 1)
    for name in ("label", "user_id", "item_id", "length_bucket", "country", "category"):
        assert by_name[name].shape.dim[0].size == 1
        assert by_name[name].presence.min_fraction == 1
    for name in ("item_id", "user_id", "length_bucket", "density_bucket", "history_item_id"):
        assert by_name[name].WhichOneof("domain_info") is None
    assert sorted(by_name["country"].string_domain.value) == ["", "de", "fr"]
    assert by_name["category"].int_domain.min == -1
    assert by_name["duration"].presence.min_fraction == pytest.approx(0.65)
    assert by_name["duration"].float_domain.disallow_nan
    assert not by_name["history_item_id"].value_count.HasField("max")
    assert not proposed.string_domain


def test_a_folder_without_examples_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="neither examples nor statistics found"):
        propose_schema(tmp_path)


def test_component_takes_what_validator_and_statistics_give() -> None:
    built = component.SchemaGate(
        channel.Channel(type=standard_artifacts.ExampleStatistics),
        channel.Channel(type=standard_artifacts.Schema),
        channel.Channel(type=standard_artifacts.ExampleAnomalies),
        max_length=100,
        allow_empty=("validation",),
    )

    assert built.outputs["approval"].type is artifacts.DataApproval
    assert built.exec_properties["max_length"] == 100
    assert json.loads(built.exec_properties["allow_empty"]) == ["validation"]


@pytest.mark.parametrize("held", [1, 8])
def test_a_number_that_went_missing_is_refused(
    gate: Gate, write_split: Callable[..., None], schema: str, held: int
) -> None:
    emptied = {"duration": [float(row) if row < held else [] for row in range(40)]}
    for split in SPLITS:
        changed = emptied if split == "train" else {}
        write_split(gate.folder / "examples", split, {**_columns(), **changed})
    found = f"train, feature 'duration': {held} of 40 examples hold a value, a share of 0.65"
    with pytest.raises(DataRefused, match=found):
        gate.run(schema)
