"""Tests of which model a candidate is compared with."""

from __future__ import annotations

from tfx.types import standard_artifacts

from components.baseline.strategy import OtherBlessedModelStrategy


def model(number: int) -> standard_artifacts.Model:
    artifact = standard_artifacts.Model()
    artifact.id = number
    return artifact


def blessing(of: int, *, blessed: bool) -> standard_artifacts.ModelBlessing:
    artifact = standard_artifacts.ModelBlessing()
    artifact.set_int_custom_property("current_model_id", of)
    artifact.set_int_custom_property("blessed", int(blessed))
    return artifact


def resolve(models: list[int], blessed: dict[int, bool], candidate: int) -> list[int]:
    resolved = OtherBlessedModelStrategy().resolve_artifacts(
        None,
        {
            "model": [model(number) for number in models],
            "model_blessing": [blessing(n, blessed=good) for n, good in blessed.items()],
            "candidate": [model(candidate)],
        },
    )
    assert resolved is not None
    assert [artifact.id for artifact in resolved["candidate"]] == [candidate]
    assert len(resolved["model_blessing"]) == len(resolved["model"])
    return [artifact.id for artifact in resolved["model"]]


def test_the_first_model_has_no_baseline() -> None:
    assert resolve([1], {}, candidate=1) == []


def test_the_last_blessed_model_is_the_baseline() -> None:
    assert resolve([1, 2, 3, 4], {1: True, 2: True, 3: False}, candidate=4) == [2]


def test_a_model_is_never_its_own_baseline() -> None:
    assert resolve([1], {1: True}, candidate=1) == []
    assert resolve([1, 2], {1: True, 2: True}, candidate=2) == [1]
    assert resolve([1, 2], {1: True, 2: True}, candidate=1) == [2]
