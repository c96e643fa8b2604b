"""Where results are put: nothing of a killed process stays, and nothing of the user's is lost."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from apache_beam.io.filesystems import FileSystems

from beam_jobs.errors import InputError
from beam_jobs.files import put_in_place, staging
from beam_jobs.plan import make_plan, with_snapshot
from tests.beam_jobs.job import anchors, configure, describe, run_job, write_log


def tree(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def folder_with(path: Path, name: str = "file") -> Path:
    path.mkdir(parents=True)
    (path / name).write_text("precious")
    return path


def test_what_a_killed_process_left_is_removed_by_the_next_one(tmp_path: Path) -> None:
    child = os.fork()
    if not child:
        try:
            with staging(str(tmp_path / "out")) as folder:
                Path(folder, "file").write_text("half")
                time.sleep(600)
        finally:
            os._exit(1)
    try:
        while not (left := list(tmp_path.glob("*/file"))):
            time.sleep(0.01)
        # As long as the process lives, another one leaves its folder alone.
        with staging(str(tmp_path / "out")) as own:
            assert sorted(tmp_path.iterdir()) == sorted([left[0].parent, Path(own)])
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert left[0].exists()
    with staging(str(tmp_path / "out")) as own:
        assert list(tmp_path.iterdir()) == [Path(own)]
    assert not list(tmp_path.iterdir())


def test_only_names_of_staging_folders_are_removed(tmp_path: Path) -> None:
    for name in ("out.staging-area", "out.staging-0123abcd.bak", "out2.staging-0123abcd", "out"):
        folder_with(tmp_path / name)
    before = tree(tmp_path)
    folder_with(tmp_path / "out.staging-0123abcd")
    folder_with(tmp_path / "out.staging-4567cdef.old")
    with staging(str(tmp_path / "out")):
        pass
    assert tree(tmp_path) == before


def test_where_nothing_can_be_locked_nothing_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(handle: int, how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    left = folder_with(tmp_path / "out.staging-0123abcd")
    (tmp_path / "out.staging-4567cdef").symlink_to("nowhere")
    with staging(str(tmp_path / "out")) as own:
        put_in_place(own, str(tmp_path / "out"), last=())
    assert (tmp_path / "out").is_dir()
    assert left.exists()


def test_a_kill_between_two_renames_loses_no_snapshot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = folder_with(tmp_path / "snapshot")
    staged = folder_with(tmp_path / "snapshot.staging-0123abcd", "new")

    class Killed(BaseException):
        """Nothing that is caught."""

    def rename(sources: list[str], destinations: list[str]) -> None:
        if not target.exists():
            raise Killed
        os.rename(sources[0], destinations[0])

    monkeypatch.setattr(FileSystems, "rename", rename)
    with pytest.raises(Killed):
        put_in_place(str(staged), str(target), last=())
    assert not target.exists()
    with staging(str(target)):
        assert (target / "file").read_text() == "precious"
    assert tree(tmp_path) == ["snapshot", "snapshot/file"]


def test_what_is_being_replaced_is_not_given_back_meanwhile(tmp_path: Path) -> None:
    old = folder_with(tmp_path / "snapshot.staging-0123abcd.old")
    handle = os.open(old, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with staging(str(tmp_path / "snapshot")):
        assert old.exists()
    os.close(handle)


def refused(folder: Path, message: str, **places: Any) -> None:
    """Checks that the job refuses its places and leaves everything as it was."""
    write_log(folder / "raw", anchors())
    before = tree(folder)
    with pytest.raises(InputError, match=message):
        run_job(describe(), configure(folder / "raw"), **places)
    assert tree(folder) == before


def test_an_output_folder_of_folders_is_not_empty(tmp_path: Path) -> None:
    folder_with(tmp_path / "out" / "inner")
    refused(tmp_path, "out: the output folder is not empty", output=tmp_path / "out")


def test_an_output_that_is_a_file_is_refused(tmp_path: Path) -> None:
    folder_with(tmp_path / "out")
    output = tmp_path / "out" / "file"
    refused(tmp_path, "file: a folder is expected, found a file", output=output)


@pytest.mark.parametrize("name", ["notes.txt", "events-x.parquet", "items.parquet"])
def test_a_snapshot_never_takes_the_place_of_something_else(tmp_path: Path, name: str) -> None:
    folder_with(tmp_path / "mine", name)
    message = f"mine: the folder of the new snapshot holds other files, such as {name}"
    refused(tmp_path, message, output=tmp_path / "out", snapshot_output=tmp_path / "mine")


@pytest.mark.parametrize(("output", "snapshot"), [("a", "a"), ("a/b", "a"), ("a", "a/b")])
def test_examples_and_snapshot_do_not_lie_in_one_another(
    tmp_path: Path, output: str, snapshot: str
) -> None:
    refused(
        tmp_path,
        "must not lie in one another",
        output=tmp_path / output,
        snapshot_output=tmp_path / snapshot,
    )


def test_places_that_beam_takes_for_patterns_are_refused(tmp_path: Path) -> None:
    folder_with(tmp_path / "out[1]")
    place = r" '.*/out\[1\]': a path without \*, \? and \[ is accepted"
    refused(tmp_path, f"the output folder{place}", output=tmp_path / "out[1]")
    refused(
        tmp_path,
        f"the folder of the new snapshot{place}",
        output=tmp_path / "out",
        snapshot_output=tmp_path / "out[1]",
    )
    plan = make_plan(configure(tmp_path / "raw"), describe())
    with pytest.raises(InputError, match=r"data.snapshot '.*/s\*': a path without"):
        with_snapshot(plan, str(tmp_path / "s*"))


def test_a_snapshot_is_renewed_in_place_through_a_link_and_a_last_slash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_log(tmp_path / "raw", anchors())
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    monkeypatch.chdir(tmp_path)
    for number in (1, 2):
        places: Any = {"output": f"out{number}/", "snapshot_output": "link/"}
        run_job(describe(), configure(tmp_path / "raw"), **places)
    assert (tmp_path / "link").is_symlink()
    assert not list(tmp_path.glob("*.staging-*"))
    # Also when it is read from elsewhere.
    assert str(tmp_path / "out2") in (tmp_path / "real" / "examples.json").read_text()
