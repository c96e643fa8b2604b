"""Labels, and models that are added, changed and removed while a server runs."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent import futures
from pathlib import Path

import pytest

from serving.server.config import ModelSource, VersionPolicy
from serving.server.errors import Code, ServingError
from serving.server.versions.config_watcher import ConfigWatcher
from serving.server.versions.failures import LoadError
from serving.server.versions.models_config import read_models_config
from serving.server.versions.records import State
from tests.serving.server.versions.managed import (
    Managed,
    serving,
    source,
    until,
)


def test_labels_lead_to_their_versions(managed: Managed) -> None:
    folder = managed.folder("tiny", 1, 2)
    labels = {"stable": 1, "canary": 2}
    manager = managed.start(source(folder, policy=VersionPolicy(all=True), labels=labels))
    assert manager.wait_for_look(20)

    manager.check_labels()

    assert manager.acquire("tiny", label="stable").number == 1
    assert manager.acquire("tiny", label="canary").number == 2


@pytest.mark.parametrize("allowed", [False, True])
def test_a_label_of_an_unavailable_version(managed: Managed, allowed: bool) -> None:
    folder = managed.folder("tiny", 1)
    manager = managed.start(
        source(folder, labels={"stable": 5}), allow_labels_for_unavailable=allowed
    )
    assert manager.wait_until_ready(20)

    if allowed:
        manager.check_labels()
    else:
        with pytest.raises(ServingError) as caught:
            manager.check_labels()
        assert caught.value.code is Code.FAILED_PRECONDITION
        assert "stable" in caught.value.message
    with pytest.raises(ServingError) as found:
        manager.acquire("tiny", label="stable")
    assert found.value.code is Code.NOT_FOUND


def test_reload_adds_keeps_and_removes_models(managed: Managed) -> None:
    first, second = managed.folder("a", 1), managed.folder("b", 1)
    manager = managed.start(source(first, "a"), source(second, "b"))
    assert manager.wait_until_ready(20)
    kept = manager.acquire("b")

    manager.reload([source(second, "b"), source(managed.folder("c", 4), "c")], 20)

    assert manager.acquire("b") is kept
    assert manager.acquire("c").number == 4
    until(lambda: managed.loader.loaded[0].closed)
    with pytest.raises(ServingError):
        manager.acquire("a")
    assert not manager.knows("a")


def test_labels_lead_to_their_versions_while_models_are_replaced(managed: Managed) -> None:
    kept = source(managed.folder("a", 1), "a", labels={"stable": 1})
    manager = managed.start(kept)
    assert manager.wait_until_ready(20)
    found = []

    class Asking(tuple[ModelSource, ...]):
        """Models that ask for a label, as another thread does, whenever they are gone through."""

        def __iter__(self) -> Iterator[ModelSource]:
            for each in super().__iter__():
                yield each
                found.append(manager.labelled("a", "stable"))

    manager.reload(Asking((kept,)), 20)

    assert set(found) == {1}


def test_a_version_of_another_folder_keeps_its_state_in_the_metrics(managed: Managed) -> None:
    manager = managed.start(source(managed.folder("old", 1)))
    assert manager.wait_until_ready(20)

    manager.reload([source(managed.folder("new", 1))], 20)
    until(lambda: managed.loader.loaded[0].closed)
    assert manager.wait_for_look(20)

    assert managed.metrics.states.value("tiny", "1") == State.AVAILABLE


@pytest.mark.parametrize("number", [1, 7])
def test_the_old_folder_serves_until_a_version_of_the_new_one_does(
    managed: Managed, caplog: pytest.LogCaptureFixture, number: int
) -> None:
    old, other = managed.folder("old", 7), managed.folder("other", 1)
    manager = managed.start(source(old), source(other, "other"))
    assert manager.wait_until_ready(20)
    good = manager.acquire("tiny")
    managed.loader.broken[number] = LoadError(Code.DATA_LOSS, "half copied")

    with pytest.raises(ServingError) as caught:
        manager.reload([source(managed.folder("new", number)), source(other, "other")], 0.2)

    assert "{tiny}" in caught.value.message
    assert f"version 7 of {old} keeps serving" in caplog.text
    # Another model that swaps its versions publishes all of them.
    managed.folder("other", 2)
    until(lambda: serving(manager, "other") == [2])
    assert manager.acquire("tiny") is good
    assert manager.ready()
    if number != 7:
        assert serving(manager) == [7]

    del managed.loader.broken[number]
    until(lambda: manager.acquire("tiny") is not good)
    assert manager.acquire("tiny").number == number
    until(lambda: good.closed)  # type: ignore[attr-defined]
    assert manager.wait_for_look(20)
    assert serving(manager) == [number]
    told = {each: managed.metrics.states.value("tiny", str(each)) for each in (1, 7)}
    assert told == {1: 0, 7: 0, number: State.AVAILABLE}


def test_a_folder_that_is_not_there_takes_no_model_down(managed: Managed) -> None:
    old = managed.folder("old", 1)
    manager = managed.start(source(old))
    assert manager.wait_until_ready(20)
    good = manager.acquire("tiny")

    with pytest.raises(ServingError):
        manager.reload([source(managed.root / "mistyped")], 0.2)
    assert manager.wait_for_look(20)
    assert manager.acquire("tiny") is good
    manager.reload([source(old)], 20)
    assert manager.wait_for_look(20)

    assert serving(manager) == [1]
    assert good.closed  # type: ignore[attr-defined]
    manager.close()
    assert all(version.closed for version in managed.loader.loaded)


def test_closing_frees_a_folder_that_was_to_be_replaced(managed: Managed) -> None:
    manager = managed.start(source(managed.folder("old", 1)))
    assert manager.wait_until_ready(20)
    with pytest.raises(ServingError):
        manager.reload([source(managed.root / "mistyped")], 0.2)

    manager.close()

    assert [version.closed for version in managed.loader.loaded] == [True]


def test_reload_changes_the_policy_of_a_model(managed: Managed) -> None:
    folder = managed.folder("tiny", 1, 2)
    manager = managed.start(source(folder))
    assert manager.wait_until_ready(20)

    manager.reload([source(folder, policy=VersionPolicy(specific=(1,)))], 20)

    until(lambda: serving(manager) == [1])


def test_reload_with_a_label_that_cannot_be_assigned_changes_nothing(managed: Managed) -> None:
    folder = managed.folder("tiny", 1)
    manager = managed.start(source(folder))
    assert manager.wait_until_ready(20)

    with pytest.raises(ServingError) as caught:
        manager.reload([source(folder, labels={"canary": 8})], 20)

    assert caught.value.code is Code.FAILED_PRECONDITION
    assert manager.wait_for_look(20)
    assert manager.acquire("tiny").number == 1


def test_reload_says_which_model_did_not_come_up(managed: Managed) -> None:
    folder = managed.folder("tiny", 1)
    manager = managed.start(source(folder))
    assert manager.wait_until_ready(20)

    with pytest.raises(ServingError) as caught:
        manager.reload([source(folder), source(managed.root / "none", "none")], 0.2)

    assert "none" in caught.value.message
    assert manager.acquire("tiny").number == 1


def test_stopping_ends_the_wait_for_new_models(
    managed: Managed, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    manager = managed.start(source(managed.folder("tiny", 1)))
    assert manager.wait_until_ready(20)
    file = tmp_path / "models.config"
    file.write_text(models_config(("none", managed.root / "none")))
    watcher = ConfigWatcher(file, manager, 600, served=())
    with futures.ThreadPoolExecutor(2) as pool:
        asked = pool.submit(manager.reload, [source(managed.root / "none", "none")], 600)
        until(lambda: manager.knows("none"))
        look = pool.submit(watcher.look)

        watcher.close()
        manager.stop()

        with pytest.raises(ServingError) as caught:
            asked.result(20)
        look.result(20)
    assert caught.value.code is Code.UNAVAILABLE
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_a_label_in_use_moves_to_available_versions_only(managed: Managed) -> None:
    folder = managed.folder("tiny", 1, 2)
    every = VersionPolicy(all=True)
    manager = managed.start(
        source(folder, policy=every, labels={"stable": 1}), allow_labels_for_unavailable=True
    )
    assert manager.wait_for_look(20)

    with pytest.raises(ServingError) as caught:
        manager.reload([source(folder, policy=every, labels={"stable": 7})], 20)
    assert caught.value.code is Code.FAILED_PRECONDITION
    assert manager.acquire("tiny", label="stable").number == 1
    manager.reload([source(folder, policy=every, labels={"stable": 2, "next": 7})], 20)
    assert manager.acquire("tiny", label="stable").number == 2


def models_config(*models: tuple[str, Path]) -> str:
    listed = "".join(
        f' config {{ name: "{name}" base_path: "{path}" model_platform: "tensorflow" }}'
        for name, path in models
    )
    return f"model_config_list {{{listed} }}"


def test_a_changed_models_config_is_served(managed: Managed, tmp_path: Path) -> None:
    first, second = managed.folder("a", 1), managed.folder("b", 3)
    file = tmp_path / "models.config"
    file.write_text(models_config(("a", first)))
    models = read_models_config(file)
    manager = managed.start(*models)
    assert manager.wait_until_ready(20)
    watcher = ConfigWatcher(file, manager, 0.02, served=models)
    watcher.start()

    file.write_text(models_config(("b", second)))

    until(lambda: manager.knows("b") and not manager.knows("a"))
    until(lambda: manager.serves("b"))
    assert manager.acquire("b").number == 3
    watcher.close()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("model_config_list { config { name: ", "not a ModelServerConfig"),
        ('model_config_list { config { name: "b" base_path: "b" } }', "absolute path"),
        (None, "models.config"),
    ],
)
def test_a_models_config_that_cannot_be_served_changes_nothing_and_is_told_once(
    managed: Managed,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    content: str | None,
    words: str,
) -> None:
    folder = managed.folder("a", 1)
    file = tmp_path / "models.config"
    file.write_text(models_config(("a", folder)))
    models = read_models_config(file)
    manager = managed.start(*models)
    assert manager.wait_until_ready(20)
    watcher = ConfigWatcher(file, manager, 1.0, served=models)
    watcher.look()

    file.unlink()
    if content is not None:
        file.write_text(content)
    for _ in range(3):
        watcher.look()

    assert serving(manager, "a") == [1]
    (told,) = [record.message for record in caplog.records if record.levelname == "ERROR"]
    assert words in told
    file.write_text(models_config(("a", managed.folder("c", 5))))
    watcher.look()
    # The old folder serves until the new one does.
    until(lambda: manager.acquire("a").number == 5)


def test_a_models_config_that_is_taken_back_is_served_again(
    managed: Managed, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "models.config"
    good, bad = (models_config((name, managed.root / name)) for name in ("a", "missing"))
    managed.folder("a", 1)
    file.write_text(good)
    models = read_models_config(file)
    manager = managed.start(*models)
    assert manager.wait_until_ready(20)
    watcher = ConfigWatcher(file, manager, 0.1, served=models)

    for _ in range(2):
        file.write_text(bad)
        watcher.look()
        until(lambda: not manager.serves("a"))
        file.write_text(good)
        watcher.look()
        assert manager.acquire("a").number == 1

    told = [record.message for record in caplog.records if record.levelname == "ERROR"]
    assert len(told) == 2
    assert all("{missing}" in each for each in told)
