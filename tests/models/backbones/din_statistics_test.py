"""Tests of din with Dice and batch normalisation in its activation unit."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.backbones.config import LengthAdaptation
from models.backbones.din import DinBackbone
from models.backbones.registry import make_backbone
from models.config import ModelConfig
from schemas.loading import ConfigError, build
from tests.models.backbones.din_lain_test import LAIN
from tests.models.backbones.family_test import inputs_of, randomise

ROOT = Path(__file__).resolve().parents[3]
OPTIONS = {"activation": "dice", "batch_norm": True}
ADAPTATIONS = pytest.mark.parametrize("lain", [None, LAIN], ids=["bare", "lain"])


def make(lain: LengthAdaptation | None) -> Any:
    # With the encoder's dropout two passes would differ.
    adaptation = None if lain is None else LengthAdaptation(**{**vars(lain), "dropout": 0.0})
    return randomise(DinBackbone((4,), adaptation, **OPTIONS))


def statistics(layer: Any) -> list[Any]:
    return [weight for weight in layer.weights if "moving" in weight.name]


@ADAPTATIONS
def test_padding_makes_no_difference_in_training(lain: LengthAdaptation | None) -> None:
    one, other = make(lain), make(lain)
    lengths = [0, 1, 3, 9]
    short = one(inputs_of(lengths, padded=9), training=True)
    long = other(inputs_of(lengths, padded=14), training=True)
    np.testing.assert_allclose(short, long, atol=1e-4)
    assert len(statistics(one)) == 4
    for weight, same in zip(statistics(one), statistics(other), strict=True):
        np.testing.assert_allclose(same, weight, rtol=1e-4, atol=1e-5)


@ADAPTATIONS
def test_scores_do_not_depend_on_other_rows(lain: LengthAdaptation | None) -> None:
    layer = make(lain)
    inputs = inputs_of([1, 3, 9], padded=9)
    before = layer(inputs)
    layer(inputs, training=True)
    whole = layer(inputs)
    assert not np.allclose(before, whole)
    for row in range(3):
        alone = type(inputs)(*(tensor[row : row + 1] for tensor in inputs))
        np.testing.assert_allclose(layer(alone), whole[row : row + 1], atol=1e-5)


def test_prompts_count_nothing() -> None:
    layer = make(LAIN)
    before = [np.array(weight) for weight in statistics(layer)]
    found = layer(inputs_of([0, 0], padded=4), training=True)
    assert np.isfinite(found).all()
    for old, weight in zip(before, statistics(layer), strict=True):
        np.testing.assert_array_equal(weight, old)


def test_the_configuration_reaches_the_unit() -> None:
    values = {
        "attention_activation": "dice", "attention_batch_norm": True, "length_groups": 1,
    }  # fmt: skip
    layer = make_backbone(build(ModelConfig, values, where="model"), max_length=8)
    assert layer.unit.activation.value == "dice"
    assert layer.unit.batch_norm
    again = DinBackbone.from_config(json.loads(json.dumps(layer.get_config())))
    assert again.get_config() == layer.get_config()


@pytest.mark.parametrize(
    "option", [{"attention_activation": "dice"}, {"attention_batch_norm": True}]
)
def test_statistics_of_groups_are_refused(option: dict[str, Any]) -> None:
    (name, _) = next(iter(option.items()))
    with pytest.raises(ConfigError, match=rf"length_groups 4 with {name}.*length_groups 1 is"):
        build(ModelConfig, option, where="model")
    assert build(ModelConfig, {**option, "backbone": "twin"}, where="model").length_groups == 4


# Trains a layer and a backbone on one and on two logical devices, and prints gradients, averages
# and weights.
DEVICES = """
import json, os, sys
os.environ["TF_USE_LEGACY_KERAS"] = "1"
sys.path.insert(0, {root!r})
import numpy as np
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from models.backbones.config import LengthAdaptation
from models.backbones.din import DinBackbone
from models.layers.masked_batch_normalization import MaskedBatchNormalization
from tests.models.backbones.family_test import inputs_of
values = np.random.default_rng(0).normal(size=[6, 5, 3]).astype(np.float32)
mask = np.arange(5) >= 5 - np.array([0, 1, 2, 5, 4, 3])[:, None]

devices = [device.name for device in tf.config.list_logical_devices("CPU")]
# One for both parts: two of the same devices would mix up their sums.
strategies = {{count: tf.distribute.MirroredStrategy(devices[:count]) for count in (1, 2)}}

def on_devices(count, make, step):
    strategy = strategies[count]
    with strategy.scope():
        layer = make()
    rows = 6 // count

    def of_device():
        context = tf.distribute.get_replica_context()
        first = tf.convert_to_tensor(context.replica_id_in_sync_group) * rows
        return step(layer, slice(first, first + rows))

    run = tf.function(lambda: strategy.reduce("SUM", strategy.run(of_device), axis=None))
    return [run().numpy().tolist(), *(weight.numpy().tolist() for weight in layer.weights)]

def make_layer():
    layer = MaskedBatchNormalization()
    layer(values)
    return layer

def step_of_layer(layer, rows):
    part, real = (tf.constant(array)[rows] for array in (values, mask))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(part, event_mask=real, training=True) ** 3)
    return tape.gradient(loss, layer.scale)

inputs = inputs_of([1, 2, 3, 9, 0, 4], padded=9)

def make_backbone():
    tf.keras.utils.set_random_seed(1)
    lain = LengthAdaptation(max_length=9, mean_length=4.0, length_deviation=3.0, dropout=0.0)
    layer = DinBackbone((4,), lain, activation="dice", batch_norm=True)
    layer(inputs)
    return layer

def step_of_backbone(layer, rows):
    part = type(inputs)(*(tensor[rows] for tensor in inputs))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(part, training=True) ** 2)
    return tape.gradient(loss, layer.unit.kernel)

for parts in ((make_layer, step_of_layer), (make_backbone, step_of_backbone)):
    print(json.dumps([on_devices(count, *parts) for count in (1, 2)]))
"""


def test_statistics_are_those_of_all_devices(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(DEVICES.format(root=str(ROOT)))
    process = subprocess.run(
        [sys.executable, str(tmp_path / "train.py")], capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr[-3000:]
    for line in process.stdout.splitlines()[-2:]:
        one, two = json.loads(line)
        assert len(one) >= 6
        assert np.any(np.array(one[0]) != 0)
        for expected, found in zip(one, two, strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
