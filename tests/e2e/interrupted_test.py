"""Runs that are killed or meet a full disk: nothing good is lost, the next run picks up."""

from __future__ import annotations

import pytest

from tests.e2e.runs import Workspace

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]


def test_killed_in_any_step_the_next_run_picks_up(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    workspace = Workspace(tmp_path_factory.mktemp("killed"))
    for node in (
        "ExampleGen",
        "StatisticsGen",
        "SequenceProfile",
        "Transform",
        "Trainer",
        "Evaluator",
    ):
        workspace.kill_in(node)
        assert workspace.versions() == []
    code, summary, output = workspace.run()
    assert code == 0, output
    assert summary["status"] == "pushed"
    assert summary["steps"]["ExampleGen"]["cached"]
    assert summary["steps"]["Trainer"]["cached"]
    assert workspace.versions() == ["1"]
    assert not list(workspace.root.glob("pipeline/*/examples/*.staging-*"))
    assert len(list(workspace.root.glob("snapshots/*"))) == 1


def test_a_full_disk_names_the_fault_and_keeps_the_model(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    workspace = Workspace(tmp_path_factory.mktemp("full"))
    code, _, output = workspace.run()
    assert code == 0, output

    # The examples of one shard are larger than this.
    code, summary, output = workspace.run("data.shards=1", file_limit=700_000)
    assert code == 1, output
    assert "File too large" in summary["error"]
    assert workspace.versions() == ["1"]

    # Larger than any file but the weights of a wide model.
    code, summary, output = workspace.run(
        "model.embedding_dim=2048", "model.hidden_units=[64]", file_limit=3_000_000
    )
    assert code == 1, output
    assert summary["error"].startswith("Trainer")
    assert workspace.versions() == ["1"]

    code, summary, output = workspace.run()
    assert code == 0, output
    assert summary["status"] == "unchanged"
