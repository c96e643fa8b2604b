"""What versions of one graph share, and what they do not."""

from __future__ import annotations

import gc
import shutil
import weakref
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from serving.server.config import RuntimeConfig
from serving.server.errors import Code, ServingError
from serving.server.versions.failures import LoadError
from serving.server.versions.graphs import fingerprint, import_graph
from serving.server.versions.model import Model
from serving.server.versions.sessions import Opened, Sessions
from tests.serving.tiny_models import copy_version, write_version


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Versions of one graph whose factor is their number, and version 9 of another graph."""
    folder = tmp_path_factory.mktemp("made")
    found = {2: write_version(folder, 2, factor=2.0), 9: write_version(folder, 9, factor=3.0)}
    found[3] = copy_version(found[2], folder, 3)
    shutil.rmtree(found[3] / "variables")
    shutil.copytree(found[9] / "variables", found[3] / "variables")
    return found


def load(version: Path, sessions: Sessions) -> Model:
    model = Model(version, sessions)
    model.fill()
    return model


def scaled(model: Model) -> float:
    (value,) = model.run(model.signatures["serving_default"], {"x": np.ones(1, np.float32)})["y"]
    return float(value)


def opened(model: Model) -> Opened:
    return model._opened


def test_versions_of_one_graph_share_it_but_not_their_weights(made: dict[int, Path]) -> None:
    sessions = Sessions(RuntimeConfig())
    two, three, other = (load(made[number], sessions) for number in (2, 3, 9))

    assert opened(two).session.graph is opened(three).session.graph
    assert opened(two).session.graph is not opened(other).session.graph
    assert [scaled(model) for model in (two, three, two, other)] == [2.0, 3.0, 2.0, 3.0]

    graph = weakref.ref(opened(two).session.graph)
    two.close()
    assert scaled(three) == 3.0
    three.close()
    other.close()
    del two, three
    gc.collect()
    assert graph() is None


def test_the_session_of_a_replaced_version_serves_the_next_with_its_weights(
    made: dict[int, Path],
) -> None:
    sessions = Sessions(RuntimeConfig(), spare_seconds=60)
    first, second = load(made[2], sessions), load(made[2], sessions)
    waiting = opened(first).session
    first.close()

    third = load(made[3], sessions)
    assert opened(third).session is waiting
    assert opened(second).session is not waiting
    assert [scaled(third), scaled(second)] == [3.0, 2.0]
    with pytest.raises(ServingError):
        scaled(first)
    second.close()
    third.close()
    assert sessions._shared == {}


def test_a_session_that_waits_holds_no_weights(made: dict[int, Path]) -> None:
    sessions = Sessions(RuntimeConfig(), spare_seconds=60)
    first, second = load(made[2], sessions), load(made[2], sessions)
    first.close()

    unfilled = Model(made[3], sessions)
    with pytest.raises(ServingError) as caught:
        scaled(unfilled)
    assert caught.value.code in (Code.FAILED_PRECONDITION, Code.NOT_FOUND)
    for model in (unfilled, second):
        model.close()


def test_a_session_waits_for_a_bounded_time(
    made: dict[int, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions = Sessions(RuntimeConfig(), spare_seconds=60)
    first, second = load(made[2], sessions), load(made[2], sessions)
    waiting = opened(first).session
    now = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    first.close()

    now = 1059.0
    sessions.close_old_spares()
    third = load(made[2], sessions)
    assert opened(third).session is waiting
    third.close()
    now = 1120.0
    sessions.close_old_spares()
    fourth = load(made[2], sessions)
    assert opened(fourth).session is not waiting
    for model in (second, fourth):
        model.close()


def test_weights_that_cannot_be_read_harm_no_other_version(
    made: dict[int, Path], tmp_path: Path
) -> None:
    sessions = Sessions(RuntimeConfig(), spare_seconds=60)
    good, old = load(made[2], sessions), load(made[2], sessions)
    old.close()
    broken = copy_version(made[3], tmp_path, 1)
    (broken / "variables" / "variables.data-00000-of-00001").write_bytes(b"")

    model = Model(broken, sessions)
    with pytest.raises(LoadError) as caught:
        model.fill()
    model.close()

    assert caught.value.code is not Code.OK
    assert str(caught.value)
    next_one = load(made[3], sessions)
    assert [scaled(good), scaled(next_one)] == [2.0, 3.0]
    for each in (good, next_one):
        each.close()
    assert sessions._shared == {}


def test_versions_share_a_graph_only_with_the_same_vocabulary(
    made: dict[int, Path], tmp_path: Path
) -> None:
    version = copy_version(made[3], tmp_path, 1)
    assert fingerprint(version) == fingerprint(made[2])

    (version / "assets").mkdir(exist_ok=True)
    (version / "assets" / "items").write_text("a\nb\n")
    other = fingerprint(version)
    assert other != fingerprint(made[2])
    (version / "assets" / "items").write_text("a\nc\n")
    assert fingerprint(version) != other
    assert fingerprint(tmp_path / "7") is None


class Counting(tf.Module):
    """Keeps a table that grows with the calls."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = tf.Variable(2.0)
        self.seen = tf.lookup.experimental.MutableHashTable(tf.int64, tf.int64, -1)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def call(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        self.seen.insert(self.seen.size(), self.seen.size())
        count = tf.cast(self.seen.size(), tf.float32)
        return {"y": x * self.factor + count}


def test_a_graph_that_keeps_state_starts_anew(tmp_path: Path, made: dict[int, Path]) -> None:
    counting = Counting()
    tf.saved_model.save(
        counting, str(tmp_path / "1"), signatures={"serving_default": counting.call}
    )
    sessions = Sessions(RuntimeConfig(), spare_seconds=60)
    first, second = load(tmp_path / "1", sessions), load(tmp_path / "1", sessions)
    assert [scaled(first), scaled(first)] == [3.0, 4.0]
    first.close()

    third = load(tmp_path / "1", sessions)
    assert scaled(third) == 3.0
    for model in (second, third):
        model.close()
    tiny = import_graph(made[2])
    assert tiny is not None
    assert tiny.keeps_nothing


def test_an_export_of_tensorflow_1_is_served(tmp_path: Path) -> None:
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        x = tf.compat.v1.placeholder(tf.float32, [None])
        y = x * tf.compat.v1.get_variable("factor", initializer=5.0, use_resource=True)
        session.run(tf.compat.v1.global_variables_initializer())
        tf.compat.v1.saved_model.simple_save(session, str(tmp_path / "1"), {"x": x}, {"y": y})

    model = load(tmp_path / "1", Sessions(RuntimeConfig(), spare_seconds=60))

    assert opened(model).key is None
    assert scaled(model) == 5.0
    model.close()
