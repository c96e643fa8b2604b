from __future__ import annotations

import json
from pathlib import Path

import pytest
from ml_metadata.proto import metadata_store_pb2

from pipeline import collect
from pipeline.summary import Summary


def test_the_reasons_of_the_canary_are_refusals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "canary.json").write_text(
        json.dumps({"status": "refused", "reasons": ["canary latency: too slow"]})
    )
    push = {"status": "not_blessed", "reason": "the server check refused", "path": None}
    (tmp_path / "push.json").write_text(json.dumps(push))
    artifact = metadata_store_pb2.Artifact(uri=str(tmp_path))
    found = [("LengthwiseCanaryResult", artifact), ("PushedModel", artifact)]
    monkeypatch.setattr(collect, "artifacts_of_last_run", lambda database: iter(found))
    summary = Summary()

    collect.collect(summary, tmp_path)

    assert summary.canary["status"] == "refused"
    assert summary.refusals == ["canary latency: too slow"]
    assert summary.status == "not_blessed"


def test_what_a_model_was_compared_with_is_in_the_summary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(folder: Path, *, baseline: bool = False) -> dict[str, dict[str, float]]:
        return {"overall": {"auc": 0.7 if baseline else 0.8}, "slices": {}}

    artifact = metadata_store_pb2.Artifact(uri=str(tmp_path))
    found = [("ModelEvaluation", artifact)]
    monkeypatch.setattr(collect, "artifacts_of_last_run", lambda database: iter(found))
    monkeypatch.setattr(collect, "read_metrics", read)
    monkeypatch.setattr(collect, "read_refusals", lambda folder: [])
    summary = Summary()

    collect.collect(summary, tmp_path)

    assert (summary.overall, summary.baseline) == ({"auc": 0.8}, {"auc": 0.7})


def test_the_summary_is_json_where_a_metric_is_undefined(tmp_path: Path) -> None:
    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    summary = Summary(training={"validation": {"auc": 0.5, "gauc": float("nan")}})
    summary.write(tmp_path / "summary.json")
    read = json.loads((tmp_path / "summary.json").read_text(), parse_constant=refuse)
    assert read["training"]["validation"] == {"auc": 0.5, "gauc": None}
