"""Tests of the whole model family as rankers: training, saving, exporting, composing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_transform as tft

from models import raw_inputs
from models.capabilities import Backbone
from models.config import ModelConfig
from models.export import export_ranker, make_signatures
from models.plan import FIELDS, RankerPlan, make_plan
from models.ranker import Ranker
from schemas import features
from tests.models import family_members, fixtures
from tests.models.conftest import TinyRun
from tests.models.family_members import LAIN, Section, adapted, config_of, one_of_each
from tests.models.profiles import make_profile
from tests.models.ranker_test import make_batch

SIZES = {"item_id": 20, "category": 4, FIELDS: 15}
LENGTHS = [0, 1, 2, 8, 5, 5, 3]
MEMBERS = one_of_each()
# Bare backbones with every fusion and every choice of inputs train in ranker_test.py.
ALL = {**adapted(), **MEMBERS}
EVERY = pytest.mark.parametrize("name", MEMBERS)


def plan_of(config: ModelConfig) -> RankerPlan:
    return make_plan(fixtures.make_description(), config, "typed_exposure", fixtures.MAX_LENGTH)


def make_ranker(
    section: Section, *, sizes: Mapping[str, int] = SIZES, seed: int = 1, **changes: Any
) -> Ranker:
    """A ranker whose weights are random, those too that start at zero or are not trained."""
    config = config_of({**section, **changes})
    plan = plan_of(config)
    tf.keras.utils.set_random_seed(seed)
    ranker = Ranker(
        plan,
        config,
        {name: sizes[name] for name in plan.vocabularies},
        global_batch_size=len(LENGTHS),
        profile=make_profile(max_length=fixtures.MAX_LENGTH),
    )
    ranker({name: value * 0 for name, value in batch_of(plan, [1]).items()})
    randomise(ranker, seed)
    return ranker


def randomise(ranker: Ranker, seed: int) -> None:
    generator = np.random.default_rng(seed)
    for weight in ranker.weights:
        if "moving_variance" not in weight.name:
            values = generator.normal(scale=0.4, size=tuple(weight.shape))
            weight.assign(values.astype(np.float32))


def batch_of(plan: RankerPlan, lengths: list[int]) -> dict[str, Any]:
    """Rows with as many fields as the plan reads; one of them has events of one kind."""
    batch = make_batch(lengths)
    batch[FIELDS] = batch[FIELDS][:, : len(plan.categories)]
    batch["numbers"] = batch["numbers"][:, : len(plan.numbers)]
    return batch


def gradients(ranker: Ranker, batch: dict[str, Any], *, training: bool) -> list[np.ndarray]:
    with tf.GradientTape() as tape:
        loss = ranker.compute_loss(batch, training=training)
    assert np.isfinite(float(loss))
    found = tape.gradient(loss, ranker.trainable_variables)
    missing = [
        weight.name
        for weight, gradient in zip(ranker.trainable_variables, found, strict=True)
        if gradient is None
    ]
    assert not missing
    return [tf.cast(tf.convert_to_tensor(gradient), tf.float32).numpy() for gradient in found]


@contextmanager
def precision(policy: str) -> Iterator[None]:
    tf.keras.mixed_precision.set_global_policy(policy)
    try:
        yield
    finally:
        tf.keras.mixed_precision.set_global_policy("float32")


@pytest.mark.parametrize("name", ALL)
def test_a_step_trains_every_weight(name: str) -> None:
    check_step(ALL[name])


@pytest.mark.parametrize("name", MEMBERS)
def test_a_step_trains_every_weight_under_mixed_precision(name: str) -> None:
    with precision("mixed_bfloat16"):
        check_step(MEMBERS[name])


@EVERY
def test_neither_groups_nor_other_rows_matter(name: str) -> None:
    check_groups(MEMBERS[name])


def check_step(section: Section) -> None:
    """Every weight gets a finite gradient that is not zero, but for biases that cancel out."""
    ranker = make_ranker(section)
    batch = batch_of(ranker.plan, LENGTHS)
    idle = {bias.ref() for bias in biases_that_cancel_out(ranker)}
    found = gradients(ranker, batch, training=True)
    for weight, gradient in zip(ranker.trainable_variables, found, strict=True):
        assert np.isfinite(gradient).all(), weight.name
        assert gradient.any() or weight.ref() in idle, weight.name
    tf.keras.optimizers.SGD(0.01).apply_gradients(
        zip(found, ranker.trainable_variables, strict=True)
    )
    assert np.isfinite(ranker(batch)).all()


def biases_that_cancel_out(ranker: Ranker) -> list[tf.Variable]:
    """Biases of din's unit that shift all logits of a softmax, or the mean of a batch, alike."""
    unit = getattr(ranker.backbone, "unit", None)
    if unit is None:
        return []
    *hidden, last = [unit.bias, *(dense.bias for dense in unit.later_layers)]
    return [last, *(hidden if unit.batch_norm else [])]


def check_groups(section: Section) -> None:
    """Rows and gradients are those of one padded batch, and of each row alone."""
    whole = make_ranker(section, length_groups=1)
    batch = batch_of(whole.plan, LENGTHS)
    expected = whole(batch).numpy()
    for row in (0, 1, 3, 6):  # of lengths 0, 1, the maximum and 3
        alone = {
            key: tf.gather(value, [row]) if isinstance(value, tf.RaggedTensor) else value[row:][:1]
            for key, value in batch.items()
        }
        np.testing.assert_allclose(whole(alone), expected[row : row + 1], atol=2e-5)
    if section.get("length_groups") == 1:  # all that this section accepts
        return
    grouped = make_ranker(section, length_groups=3)
    alike = batch_of(whole.plan, [3, 3])  # one group has all of it, the others nothing
    for rows in (batch, alike):
        np.testing.assert_allclose(grouped(rows), whole(rows), atol=2e-5)
        for one, other in zip(
            gradients(whole, rows, training=False),
            gradients(grouped, rows, training=False),
            strict=True,
        ):
            np.testing.assert_allclose(other, one, rtol=1e-4, atol=2e-5)


# One backbone of each kind: a single branch, two branches, latent queries.
@pytest.mark.parametrize("backbone", ["din", "sim", "hyformer"])
def test_the_length_encoder_drops_out_in_training_only(backbone: str) -> None:
    bare, adapted = (
        make_ranker({"backbone": backbone, "lain": lain})
        for lain in (None, {**LAIN, "dropout": 0.5})
    )
    batch = batch_of(bare.plan, LENGTHS)
    for ranker, differs in ((bare, False), (adapted, True)):
        one, two = (ranker(batch, training=True).numpy() for _ in range(2))
        assert (one != two).any() == differs
        np.testing.assert_array_equal(ranker(batch), ranker(batch))


def test_only_the_auxiliary_loss_teaches_sim_to_search(monkeypatch: pytest.MonkeyPatch) -> None:
    ranker = make_ranker({"backbone": "sim"})
    batch = batch_of(ranker.plan, LENGTHS)
    search = ranker.backbone.search.trainable_weights
    with tf.GradientTape(persistent=True) as tape:
        logits = ranker(batch, training=True)
        loss = ranker.compute_loss(batch, training=True)
    assert search
    assert all(gradient is None for gradient in tape.gradient(logits, search))
    assert all(np.array(gradient).any() for gradient in tape.gradient(loss, search))
    labels = batch[features.LABEL].numpy()

    def cross_entropy(logits: np.ndarray) -> float:
        return np.sum(np.logaddexp(0, logits) - labels * logits) / len(LENGTHS)

    monkeypatch.setattr(ranker.backbone, "auxiliary_logit", lambda inputs: 2 * inputs.target[:, 0])
    auxiliary = 2 * ranker._embed_items(batch).target[:, 0].numpy()
    expected = cross_entropy(logits.numpy()) + cross_entropy(auxiliary)
    assert float(ranker.compute_loss(batch)) == pytest.approx(expected, rel=1e-5)


# Calls every signature of a model, apart from the project's code, and writes their scores.
LOADER = """
import json, sys
import tensorflow as tf

folder, examples, output = sys.argv[1:]
serialized = tf.constant(list(tf.data.TFRecordDataset(examples).as_numpy_iterator()))
scores = {}
for name, signature in tf.saved_model.load(folder).signatures.items():
    scores[name] = signature(examples=serialized)["score"].numpy().tolist()
assert not [name for name in sys.modules if name.split(".")[0] in ("models", "schemas")]
json.dump(scores, open(output, "w"))
"""

# Another value for each feature of a row, to see that it is read.
OTHER: dict[str, Any] = {
    "item_id": 1, "category": "c2", "surface": "search", "hour": 3, "author": 2, "age": 70.0,
    "history_length_total": 60, "history_item_id": [9, 8, 7, 6, 5],
    "history_category": ["c2", "c2", "c1", "c1", "c1"], "history_action": [2, 1, 1, 1, 1],
}  # fmt: skip


def example_rows(run: TinyRun) -> list[dict[str, Any]]:
    """Rows of the validation split; then one row, and it again with each feature changed."""
    rows = run.rows["validation"]
    base = {
        **next(row for row in rows if len(row["history_item_id"]) == 5 and row["author"] > 2),
        "item_id": 4, "category": "c1", "surface": "feed", "hour": 20, "age": 20.0,
        "history_length_total": 5, "history_item_id": [1, 2, 3, 4, 5],
        "history_category": ["c0", "c0", "c0", "c2", "c2"], "history_action": [1, 1, 2, 2, 2],
    }  # fmt: skip
    return [*rows[:40], base, *({**base, name: value} for name, value in OTHER.items())]


class Exports:
    """Rankers and what a fresh process scored with their exports.

    All are signatures of one SavedModel, which has the Transform graph once: a model for each
    would take most of its time over that.
    """

    def __init__(self, run: TinyRun, sections: Mapping[str, Section], folder: Path) -> None:
        self.transform = tft.TFTransformOutput(run.graph)
        self.rows = example_rows(run)
        self.rankers: dict[str, Ranker] = {}
        self.scores: dict[str, np.ndarray] = {}
        examples = fixtures.write_examples(folder / "examples", self.rows)
        layer = self.transform.transform_features_layer()
        for name, section in sections.items():
            ranker = make_ranker(section, sizes=self.sizes)
            self.rankers[name] = ranker
            self.scores[name] = tf.sigmoid(ranker(self.batch(ranker.plan, layer))).numpy()
            ranker.length_groups = 1  # as an export does
        self.export(str(folder / "model"))
        (folder / "load.py").write_text(LOADER)
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        process = subprocess.run(
            [
                sys.executable, str(folder / "load.py"), str(folder / "model"), examples,
                str(folder / "scores.json"),
            ],
            cwd=folder, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert process.returncode == 0, process.stderr[-3000:]
        self.fresh = json.loads((folder / "scores.json").read_text())

    @property
    def sizes(self) -> dict[str, int]:
        """Entries of each vocabulary of the Transform graph."""
        return {name: self.transform.vocabulary_size_by_name(name) for name in SIZES}

    def export(self, directory: str) -> None:
        """Exports one signature of each: that all signatures of a ranker agree is tested once."""

        def one_of_each(_: Any, *rest: Any) -> dict[str, Any]:
            return {
                name: make_signatures(ranker, *rest)["serving_default"]
                for name, ranker in self.rankers.items()
            }

        every: Any = types.SimpleNamespace(
            variables=[part for ranker in self.rankers.values() for part in ranker.variables],
            length_groups=1,
            tables=[],
            embeddings=[],
        )
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("models.export.make_signatures", one_of_each)
            patch.setattr("models.export.METHOD_NAMES", {})
            export_ranker(every, self.transform, directory, saved_config={})

    def batch(self, plan: RankerPlan, layer: Any) -> dict[str, Any]:
        """The rows as Transform makes them."""
        serialized = tf.constant([fixtures.to_example(row) for row in self.rows])
        raw = raw_inputs.fit_lists(raw_inputs.parse_examples(serialized, plan), plan)
        spec = self.transform.raw_feature_spec()
        found = layer(raw_inputs.conform(raw, plan, spec))
        return {
            key: tf.RaggedTensor.from_sparse(value) if isinstance(value, tf.SparseTensor) else value
            for key, value in found.items()
        }

    def check(self, name: str) -> None:
        """The fresh process agrees, and each feature that is read makes a difference."""
        np.testing.assert_allclose(self.fresh[name], self.scores[name], atol=2e-6)
        assert np.std(self.scores[name]) > 1e-3
        plan = self.rankers[name].plan
        read = {feature.name for feature in raw_inputs.raw_features(plan)}
        if self.rankers[name].backbone is None:
            read -= set(plan.history_lists)
        base, *changed = self.fresh[name][-1 - len(OTHER) :]
        for feature, score in zip(OTHER, changed, strict=True):
            assert (abs(score - base) > 1e-6) == (feature in read), feature


@pytest.fixture(scope="module")
def exports(int_run: TinyRun, tmp_path_factory: pytest.TempPathFactory) -> Exports:
    """One export for each value of each axis, all loaded by one fresh process."""
    return Exports(int_run, MEMBERS, tmp_path_factory.mktemp("family"))


@EVERY
def test_the_export_agrees_in_a_fresh_process_and_reads_every_input(
    name: str, exports: Exports
) -> None:
    exports.check(name)


@EVERY
def test_a_checkpoint_brings_every_weight_back(name: str, tmp_path: Path) -> None:
    """Also fixed hash projections and moving averages, which here are not what a seed gives."""
    check_reload(MEMBERS[name], tmp_path)


def check_reload(section: Section, folder: Path) -> None:
    saved, other = (make_ranker(section, seed=seed) for seed in (1, 2))
    batch = batch_of(saved.plan, LENGTHS)
    expected = saved(batch).numpy()
    path = tf.train.Checkpoint(ranker=saved).write(str(folder / "checkpoint"))
    saved.save_weights(str(folder / "ranker.weights.h5"))
    assert not np.allclose(other(batch), expected)
    tf.train.Checkpoint(ranker=other).read(path).assert_existing_objects_matched()
    np.testing.assert_array_equal(other(batch), expected)
    randomise(other, seed=3)
    assert not np.allclose(other(batch), expected)
    other.load_weights(str(folder / "ranker.weights.h5"))
    np.testing.assert_array_equal(other(batch), expected)


FUSIONS = [
    {"action_fusion": actions, "item_fusion": items}
    for actions in ("none", "add", "concat")
    for items in ("concat", "sum")
]


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("fusion", FUSIONS, ids=lambda fusion: "-".join(fusion.values()))
@pytest.mark.parametrize("backbone", list(Backbone), ids=lambda backbone: backbone.value)
def test_the_full_product_trains_and_reloads(
    backbone: Backbone, fusion: Section, tmp_path: Path
) -> None:
    for name, section in family_members.product(backbone):
        folder = tmp_path / name
        folder.mkdir()
        check_groups({**section, **fusion})
        check_reload({**section, **fusion}, folder)
        for policy in ("float32", "mixed_bfloat16"):
            with precision(policy):
                check_step({**section, **fusion})


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("backbone", list(Backbone), ids=lambda backbone: backbone.value)
def test_the_full_product_exports(backbone: Backbone, int_run: TinyRun, tmp_path: Path) -> None:
    sections = list(family_members.product(backbone))
    for start in range(0, len(sections), len(MEMBERS)):
        folder = tmp_path / str(start)
        some = dict(sections[start : start + len(MEMBERS)])
        exports = Exports(int_run, some, folder)
        for name in some:
            exports.check(name)
