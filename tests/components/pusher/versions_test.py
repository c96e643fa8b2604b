from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from components.errors import PushFailed
from components.pusher import versions

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"graph")
    (folder / "variables" / "variables.index").write_bytes(b"weights")
    return folder


@pytest.fixture
def destination(tmp_path: Path) -> Path:
    return tmp_path / "serving"


def _push(model: Path, destination: Path) -> tuple[versions.Version, bool]:
    return versions.push(model, destination, {"fingerprint": versions.fingerprint(model)})


def _files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != versions.LOCK_FILE
    }


def test_the_first_version_is_1_and_whole(model: Path, destination: Path) -> None:
    version, is_new = _push(model, destination)

    assert is_new
    assert version.path == destination / "1"
    pushed = _files(version.path)
    record = json.loads(pushed.pop("assets.extra/lengthwise_fingerprint.json"))
    assert record["fingerprint"] == versions.fingerprint(model)
    assert pushed == _files(model)


def test_the_same_model_is_not_pushed_twice(model: Path, destination: Path) -> None:
    first, _ = _push(model, destination)
    before = _files(destination)

    second, is_new = _push(model, destination)

    assert not is_new
    assert second.path == first.path
    assert _files(destination) == before


def test_warmup_requests_make_a_version_of_the_same_model(model: Path, destination: Path) -> None:
    cold, _ = _push(model, destination)
    warm = model.with_name("warm")
    shutil.copytree(model, warm)
    (warm / "assets.extra").mkdir()
    (warm / "assets.extra" / "tf_serving_warmup_requests").write_bytes(b"requests")
    record = {"fingerprint": versions.fingerprint(model)}

    second, is_new = versions.push(warm, destination, record)

    assert is_new
    assert (cold.number, second.number) == (1, 2)
    # From then on neither form of the model is new.
    assert versions.push(warm, destination, record) == (second, False)
    assert versions.push(model, destination, record) == (second, False)


def test_versions_count_up_as_numbers(model: Path, destination: Path) -> None:
    for name in ("9", "10", "backup", "11.old"):
        (destination / name).mkdir(parents=True)
    (destination / "notes.txt").write_text("foreign")

    version, _ = _push(model, destination)
    (model / "saved_model.pb").write_bytes(b"another graph")
    following, _ = _push(model, destination)

    assert (version.number, following.number) == (11, 12)
    assert [one.number for one in versions.read_versions(destination)] == [11, 12]
    assert (destination / "backup").is_dir()


def test_a_model_that_serves_no_more_is_pushed_anew(model: Path, destination: Path) -> None:
    _push(model, destination)
    other = model.parent / "other"
    shutil.copytree(model, other)
    (other / "saved_model.pb").write_bytes(b"another graph")
    _push(other, destination)

    again, is_new = _push(model, destination)

    assert is_new
    assert again.number == 3


def test_an_incomplete_version_does_not_count_as_pushed(model: Path, destination: Path) -> None:
    first, _ = _push(model, destination)
    (first.path / "saved_model.pb").unlink()

    version, is_new = _push(model, destination)

    assert is_new
    assert version.number == 2


def test_a_model_below_an_incomplete_version_does_not_count_as_serving(
    model: Path, destination: Path
) -> None:
    # A server asks for the highest number, and finds nothing to load there.
    _push(model, destination)
    (destination / "2").mkdir()

    version, is_new = _push(model, destination)

    assert is_new
    assert version.number == 3


def test_a_file_or_a_dead_link_keeps_its_number(model: Path, destination: Path) -> None:
    (destination / "4").mkdir(parents=True)
    (destination / "5").write_text("moved to the archive")
    (destination / "6").symlink_to(destination / "gone")

    version, _ = _push(model, destination)

    assert version.number == 7


def test_a_number_that_no_server_reads_is_not_counted_on(model: Path, destination: Path) -> None:
    # TensorFlow Serving takes 64 bits; it would pass over this one and the next.
    (destination / "20261122041530123456").mkdir(parents=True)

    version, _ = _push(model, destination)

    assert version.number == 1
    assert _push(model, destination) == (version, False)


@pytest.mark.parametrize("content", [b"", b"[]", b'{"fingerprint": 3}', b"\xff"])
def test_a_damaged_fingerprint_is_no_fingerprint(
    model: Path, destination: Path, content: bytes
) -> None:
    first, _ = _push(model, destination)
    (first.path / "assets.extra" / "lengthwise_fingerprint.json").write_bytes(content)

    version, is_new = _push(model, destination)

    assert is_new
    assert version.number == 2


def test_the_fingerprint_sees_names_and_bytes(model: Path) -> None:
    before = versions.fingerprint(model)
    os.utime(model / "saved_model.pb", (0, 0))
    untouched = versions.fingerprint(model)
    (model / "saved_model.pb").rename(model / "saved_model.pbtxt")
    renamed = versions.fingerprint(model)
    (model / "saved_model.pbtxt").rename(model / "saved_model.pb")
    (model / "variables" / "variables.index").write_bytes(b"weightz")
    changed = versions.fingerprint(model)

    assert untouched == before
    assert len({before, renamed, changed}) == 3


def test_a_push_that_dies_leaves_the_last_version_and_the_next_one_cleans_up(
    model: Path, destination: Path
) -> None:
    _push(model, destination)
    before = _files(destination)
    (model / "saved_model.pb").write_bytes(b"another graph")
    # Killed between the copy and the rename: nothing of Python's clean-up runs.
    script = (
        "import os, signal, sys, pathlib\n"
        "from components.pusher import versions\n"
        "versions.os.rename = lambda *paths: os.kill(os.getpid(), signal.SIGKILL)\n"
        "versions.push(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), {'fingerprint': 'x'})"
    )
    killed = subprocess.run(
        [sys.executable, "-c", script, str(model), str(destination)], cwd=ROOT, check=False
    )

    staging = list(destination.glob(".staging-*"))
    assert killed.returncode == -9
    assert len(staging) == 1
    assert [one.number for one in versions.read_versions(destination)] == [1]
    shutil.rmtree(staging[0])
    assert _files(destination) == before

    shutil.copytree(model, staging[0])
    version, is_new = _push(model, destination)

    assert is_new
    assert version.number == 2
    assert not list(destination.glob(".staging-*"))


def test_a_failed_rename_removes_the_staging_folder(
    model: Path, destination: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*paths: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(versions.os, "rename", refuse)
    with pytest.raises(PushFailed, match="Permission denied; no version was there before"):
        _push(model, destination)

    assert not list(destination.glob(".staging-*"))


def test_a_full_disk_leaves_the_last_version(model: Path, destination: Path) -> None:
    _push(model, destination)
    before = _files(destination)
    (model / "variables" / "variables.data").write_bytes(b"w" * 200_000)
    script = (
        "import resource, sys, pathlib\n"
        "from components.pusher import versions\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n"
        "versions.push(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), {'fingerprint': 'x'})"
    )

    full = subprocess.run(
        [sys.executable, "-c", script, str(model), str(destination)],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
    )

    assert full.returncode == 1
    message = f"push to {destination}: there is no space left; version 1 is untouched"
    assert message in full.stderr.strip().splitlines()[-1]
    assert _files(destination) == before
    assert not list(destination.glob(".staging-*"))


def test_another_push_in_progress_is_waited_for_and_named(
    model: Path, destination: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(versions, "LOCK_TIMEOUT_SECONDS", 0.1)
    destination.mkdir()
    (destination / ".staging-other").mkdir()
    with (destination / versions.LOCK_FILE).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(PushFailed, match="another push has held"):
            _push(model, destination)

    assert (destination / ".staging-other").is_dir()


def test_what_is_no_saved_model_is_refused(tmp_path: Path, destination: Path) -> None:
    with pytest.raises(PushFailed, match=r"there is no saved_model\.pb"):
        versions.push(tmp_path, destination, {"fingerprint": "x"})

    assert not destination.exists()
