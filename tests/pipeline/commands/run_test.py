"""Tests of what a run says, of an error above all, and of the summaries it writes."""

from __future__ import annotations

import argparse
import datetime
import json
import types
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
from rich.console import Console

from beam_jobs.errors import InputError
from pipeline import prepare
from pipeline.commands import run
from pipeline.commands.run import message_of
from pipeline.config import RunConfig
from pipeline.summary import Summary


class Inner(tf.keras.layers.Layer):
    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        raise TypeError("two arguments are missing")


class Outer(tf.keras.layers.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.inner = Inner()

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return self.inner(inputs)


def test_an_error_of_a_traced_function_is_told_without_its_wrapping() -> None:
    with pytest.raises(TypeError, match="in user code:") as found:
        tf.function(Outer())(tf.zeros([1]))
    assert message_of(found.value) == "TypeError: two arguments are missing"


def test_the_first_line_of_another_error_is_told() -> None:
    assert message_of(ValueError("a fault\nand pages on it")) == "ValueError: a fault"


def test_a_store_that_cannot_be_written_is_named() -> None:
    from ml_metadata.errors import InternalError

    fault = "Error when executing query: disk I/O error query: COMMIT;"

    assert message_of(InternalError(fault)) == f"metadata.sqlite: {fault}"


@pytest.fixture
def pushed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the steps of a run nothing but a push."""

    def steps(config: RunConfig, root: Path, console: Console) -> tuple[int, Summary]:
        return 0, Summary(status="pushed", version_folder="serving/1")

    monkeypatch.setattr(run, "_run_steps", steps)


def arguments(tmp_path: Path) -> argparse.Namespace:
    return argparse.Namespace(
        config="configs/demo.yaml",
        overrides=[f"run.root={tmp_path}/run"],
        summary=str(tmp_path / "summary.json"),
    )


@pytest.mark.usefixtures("pushed")
def test_a_clock_that_is_put_back_does_not_make_a_run_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    hours = iter([3, 2])

    class Clock(datetime.datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Clock:
            return cls(2026, 10, 25, next(hours))

    monkeypatch.setattr(run, "datetime", types.SimpleNamespace(datetime=Clock))
    assert run.main(arguments(tmp_path)) == 0
    assert "pushed after 0 min 0 s: serving/1" in capfd.readouterr().out


@pytest.mark.usefixtures("pushed")
def test_the_summary_asked_for_is_written_where_the_other_cannot_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Summary.write

    def full(summary: Summary, path: Path) -> None:
        if path.parent == tmp_path / "run":
            raise OSError(28, "No space left on device", str(path))
        write(summary, path)

    monkeypatch.setattr(Summary, "write", full)
    assert run.main(arguments(tmp_path)) == 1
    assert json.loads((tmp_path / "summary.json").read_text())["status"] == "pushed"


def test_an_interruption_before_the_steps_is_in_both_summaries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "without_collection", interrupt)
    assert run.main(arguments(tmp_path)) == 1
    for path in (tmp_path / "summary.json", tmp_path / "run" / "summary.json"):
        assert json.loads(path.read_text())["error"] == "Start: interrupted; the next run picks up"


def test_a_log_that_is_refused_is_told_with_the_rows_put_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    letter = tmp_path / "run" / "failed_dead_letter.jsonl"

    def refuse(config: RunConfig) -> None:
        assert not letter.exists()
        letter.touch()
        raise InputError("2 of 2 rows of the log cannot be used: label: y [x] is not 0 or 1")

    letter.parent.mkdir()
    letter.touch()
    monkeypatch.setattr(prepare, "prepare", refuse)
    assert run.main(arguments(tmp_path)) == 2
    told = capfd.readouterr().out
    assert "label: y [x] is not 0 or 1\n" in told
    assert f"rows put aside: {letter}\n" in told
    assert json.loads((tmp_path / "summary.json").read_text())["dead_letter"] == str(letter)
