"""Versions found, loaded, swapped and let go, with stand-ins for loaded models."""

from __future__ import annotations

import itertools
import shutil
import threading
from typing import Any

import pytest

from serving.server.config import VersionPolicy
from serving.server.errors import Code, ServingError
from serving.server.versions.failures import LoadError
from serving.server.versions.records import State
from tests.serving.server.versions.managed import (
    Managed,
    serving,
    source,
    states,
    until,
)


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ({}, [12]),
        ({"latest": 2}, [3, 12]),
        ({"latest": 9}, [1, 2, 3, 12]),
        ({"all": True}, [1, 2, 3, 12]),
        ({"specific": (2, 3, 99)}, [2, 3]),
    ],
)
def test_the_policy_says_which_versions_serve(
    managed: Managed, policy: dict[str, Any], expected: list[int]
) -> None:
    folder = managed.folder("tiny", 1, 2, 3, 12, ".staging-99", "text", "13-copy", 10**19)
    (folder / "14").write_text("a file")

    manager = managed.start(source(folder, policy=VersionPolicy(**policy)))

    assert manager.wait_for_look(20)
    assert serving(manager) == expected


def test_a_version_that_is_asked_for_and_not_there_is_told_once(
    managed: Managed, caplog: pytest.LogCaptureFixture
) -> None:
    folder = managed.folder("tiny", 1)
    manager = managed.start(source(folder, policy=VersionPolicy(specific=(9,))))

    for _ in range(3):
        assert manager.wait_for_look(20)
    assert not manager.ready()
    (told,) = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert "version 9" in told
    assert str(folder) in told
    (folder / "9").mkdir()
    assert manager.wait_until_ready(20)


def test_without_a_version_the_newest_answers(managed: Managed) -> None:
    folder = managed.folder("tiny", 2, 10)
    manager = managed.start(source(folder, policy=VersionPolicy(all=True)))
    assert manager.wait_for_look(20)

    assert manager.acquire("tiny").number == 10
    assert manager.acquire("tiny", number=2).number == 2


def test_a_new_version_is_loaded_before_the_old_one_goes(managed: Managed) -> None:
    folder = managed.folder("tiny", 1)
    manager = managed.start(source(folder))
    assert manager.wait_until_ready(20)
    managed.loader.gate = threading.Event()

    (folder / "2").mkdir()
    until(lambda: states(manager).get(2) == "LOADING")

    assert manager.acquire("tiny").number == 1
    managed.loader.gate.set()
    until(lambda: states(manager) == {1: "END", 2: "AVAILABLE"})
    assert manager.acquire("tiny").number == 2
    assert managed.loader.loaded[0].closed


def test_a_version_that_fails_is_reported_and_the_good_one_stays(
    managed: Managed, caplog: pytest.LogCaptureFixture
) -> None:
    folder = managed.folder("tiny", 1)
    managed.loader.broken[2] = LoadError(Code.DATA_LOSS, "variables: truncated")
    manager = managed.start(source(folder))
    assert manager.wait_until_ready(20)

    (folder / "2").mkdir()
    until(lambda: managed.metrics.load_failures.value("tiny", "2") >= 1)
    until(lambda: states(manager)[2] == "END")

    newest = manager.status("tiny", 2)[0]
    assert (newest.state, newest.code) == (State.END, Code.DATA_LOSS)
    assert newest.message == "variables: truncated"
    assert manager.acquire("tiny").number == 1
    assert "version 1 keeps serving" in caplog.text
    assert "variables: truncated" in caplog.text


def test_after_a_start_the_newest_version_that_loads_serves_in_place_of_a_broken_one(
    managed: Managed,
) -> None:
    folder = managed.folder("tiny", 1, 2, 3, 4)
    for number in (3, 4):
        managed.loader.broken[number] = LoadError(Code.DATA_LOSS, "half copied")
    manager = managed.start(source(folder))

    assert manager.wait_until_ready(20)
    assert manager.acquire("tiny").number == 2
    assert manager.status("tiny", 4)[0].code is Code.DATA_LOSS
    assert 1 not in states(manager)

    del managed.loader.broken[4]
    until(lambda: serving(manager) == [4])


def test_versions_that_are_named_are_not_replaced_by_others(managed: Managed) -> None:
    folder = managed.folder("tiny", 1, 2)
    managed.loader.broken[2] = LoadError(Code.DATA_LOSS, "half copied")
    manager = managed.start(source(folder, policy=VersionPolicy(specific=(2,))))

    until(lambda: len(managed.loader.attempts) >= 3)

    assert not manager.ready()
    assert {number for number, _ in managed.loader.attempts} == {2}


def test_a_failed_version_is_tried_again_ever_more_slowly_until_it_loads(
    managed: Managed,
) -> None:
    folder = managed.folder("tiny", 1)
    managed.loader.broken[1] = LoadError(Code.NOT_FOUND, "saved_model.pb: half copied")
    manager = managed.start(source(folder), retry_seconds=0.1, max_retry_seconds=0.4)
    until(lambda: len(managed.loader.attempts) >= 4)

    del managed.loader.broken[1]

    assert manager.wait_until_ready(20)
    times = [when for _, when in managed.loader.attempts]
    waits = [after - before for before, after in itertools.pairwise(times)]
    assert waits[0] >= 0.1
    assert waits[1] >= 0.2
    assert waits[2] >= 0.4


def test_an_error_nobody_foresaw_does_not_end_the_watching(managed: Managed) -> None:
    folder = managed.folder("tiny", 1, 2)
    managed.loader.broken[2] = ZeroDivisionError("unforeseen")
    manager = managed.start(source(folder, policy=VersionPolicy(all=True)), retry_seconds=30)

    assert manager.wait_until_ready(20)

    assert manager.status("tiny", 2)[0].code is Code.INTERNAL
    (folder / "3").mkdir()
    until(lambda: serving(manager) == [1, 3])


def test_a_folder_that_was_emptied_takes_nothing_down(
    managed: Managed, caplog: pytest.LogCaptureFixture
) -> None:
    folder = managed.folder("tiny", 1)
    manager = managed.start(source(folder))
    assert manager.wait_until_ready(20)

    shutil.rmtree(folder)
    assert manager.wait_for_look(20)
    folder.mkdir()
    assert manager.wait_for_look(20)

    assert manager.acquire("tiny").number == 1
    assert "No versions of servable tiny found" in caplog.text


def test_going_back_is_removing_the_newest_version(managed: Managed) -> None:
    folder = managed.folder("tiny", 1, 2)
    manager = managed.start(source(folder))
    assert manager.wait_until_ready(20)

    (folder / "2").rmdir()

    until(lambda: serving(manager) == [1])
    assert manager.acquire("tiny").number == 1


def test_versions_that_ended_are_not_kept_for_ever(managed: Managed) -> None:
    folder = managed.folder("tiny", 1)
    manager = managed.start(source(folder))
    assert manager.wait_until_ready(20)
    for number in range(2, 25):
        (folder / str(number)).mkdir()
        until(lambda wanted=number: serving(manager) == [wanted])

    until(lambda: len(states(manager)) <= 17)
    assert max(states(manager)) == 24


def test_the_metrics_of_versions_that_failed_are_not_kept_for_ever(managed: Managed) -> None:
    folder = managed.folder("tiny", 1)
    manager = managed.start(source(folder), retry_seconds=60)
    assert manager.wait_until_ready(20)
    for number in range(2, 24, 2):
        managed.loader.broken[number] = LoadError(Code.DATA_LOSS, "truncated")
        for made in (number, number + 1):
            (folder / str(made)).mkdir()
            until(lambda wanted=made: states(manager).get(wanted) in ("END", "AVAILABLE"))

    until(lambda: len(states(manager)) <= 17)
    page = managed.metrics.page()
    assert 'version="2"' not in page
    assert ':lengthwise:serving:load_failure_count{model_name="tiny",version="22"} 1' in page


def test_what_is_not_there_is_named(managed: Managed) -> None:
    manager = managed.start(source(managed.folder("tiny", 1)))
    assert manager.wait_until_ready(20)

    cases = [
        (lambda: manager.acquire(""), Code.INVALID_ARGUMENT, "no name"),
        (lambda: manager.acquire("a"), Code.NOT_FOUND, "Latest(a)"),
        (lambda: manager.acquire("tiny", number=3), Code.NOT_FOUND, "Specific(tiny, 3)"),
        (lambda: manager.acquire("tiny", label="b"), Code.INVALID_ARGUMENT, "b"),
        (lambda: manager.acquire("a", label="b"), Code.INVALID_ARGUMENT, "b"),
        (lambda: manager.status("a"), Code.NOT_FOUND, "a"),
        (lambda: manager.status("tiny", 3), Code.NOT_FOUND, "version 3"),
    ]

    for call, code, word in cases:
        with pytest.raises(ServingError) as caught:
            call()
        assert (caught.value.code, word in caught.value.message) == (code, True)


def test_closing_frees_every_version(managed: Managed) -> None:
    folder = managed.folder("tiny", 1, 2)
    manager = managed.start(source(folder, policy=VersionPolicy(all=True)))
    assert manager.wait_for_look(20)

    manager.close()

    assert [version.closed for version in managed.loader.loaded] == [True, True]
    with pytest.raises(ServingError):
        manager.acquire("tiny")


def test_closing_does_not_wait_for_a_load_and_frees_its_version_later(managed: Managed) -> None:
    folder = managed.folder("tiny", 1)
    manager = managed.start(source(folder))
    assert manager.wait_until_ready(20)
    managed.loader.gate = threading.Event()
    (folder / "2").mkdir()
    until(lambda: states(manager).get(2) == "LOADING")

    assert manager.close() is False

    assert managed.loader.loaded[0].closed
    managed.loader.gate.set()
    until(lambda: len(managed.loader.loaded) == 2 and managed.loader.loaded[1].closed)
    until(manager.close)
    assert states(manager)[2] == "LOADING"
