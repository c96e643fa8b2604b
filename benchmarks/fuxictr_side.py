"""The other side of benchmarks/against_fuxictr.py: trains FuxiCTR's own models, under PyTorch.

It runs in an environment that has FuxiCTR and PyTorch and none of this project's requirements.
Batches come from an ``.npz`` file, histories padded on the left to the maximum, and are in memory
as tensors before the clock starts: the loader of that library costs nothing here. It reads a number
of steps a line from its input, trains so many and answers with the seconds that they took.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections import OrderedDict
from typing import Any

import numpy as np
import torch
from fuxictr.features import FeatureMap
from model_zoo.LongCTR.DIN.DIN import DIN
from model_zoo.LongCTR.SDIM.SDIM import SDIM
from model_zoo.LongCTR.SIM.SIM import SIM
from model_zoo.LongCTR.TWIN.TWIN import TWIN

MODELS = {"din": DIN, "twin": TWIN, "sim": SIM, "sdim": SDIM}
ITEM, LABEL = "item_id", "label"


def main(name: str, path: str) -> None:
    """Answers requests until the input ends.

    Args:
        name: of the model.
        path: of the batches and the sizes.
    """
    torch.manual_seed(0)
    arrays = np.load(path)
    settings = json.loads(str(arrays["settings"]))
    model = make_model(name, settings)
    model.train()
    # What the library's own loop sets; gradients are applied each step.
    model._batch_index, model._max_gradient_norm = 0, 10.0
    batches = make_batches(arrays, settings)
    for number in range(2):
        model.train_step(copied(batches[number % len(batches)]))
    answer({"ready": True})
    number = 0
    for line in sys.stdin:
        began, began_work = time.perf_counter(), time.process_time()
        for _ in range(int(line)):
            model.train_step(copied(batches[number % len(batches)]))
            number += 1
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        answer(
            {
                "seconds": time.perf_counter() - began,
                "processor_seconds": time.process_time() - began_work,
                "peak_mb": peak,
            }
        )


def make_model(name: str, settings: dict[str, Any]) -> Any:
    """Makes a model of the sizes that the other side has."""
    features = FeatureMap("long_workload", ".")
    specs: dict[str, Any] = {
        f"field_{index}": {"source": "user", "type": "categorical", "vocab_size": size}
        for index, size in enumerate([settings["field_values"] + 2] * settings["fields"])
    }
    specs[ITEM] = {
        "source": "item",
        "type": "categorical",
        "vocab_size": settings["items"] + 2,
        "padding_idx": 0,
    }
    features.features = OrderedDict(specs)
    features.labels = [LABEL]
    features.num_fields = len(specs)
    features.default_emb_dim = settings["embedding_dim"]
    common = {
        "gpu": -1,
        "embedding_dim": settings["embedding_dim"],
        "dnn_hidden_units": settings["hidden_units"],
        "attention_dim": settings["embedding_dim"],
        "num_heads": settings["heads"],
        "learning_rate": 1e-3,
        "optimizer": "adam",
        "loss": "binary_crossentropy",
        "task": "binary_classification",
        "metrics": ["AUC"],
        "model_root": ".",
        "verbose": 0,
    }
    own = {
        "din": {"attention_hidden_units": settings["attention_units"]},
        "sdim": {"num_hashes": settings["hashes"], "hash_bits": 4},
    }
    return MODELS[name](features, **common, **own.get(name, {}))


def make_batches(arrays: Any, settings: dict[str, Any]) -> list[Any]:
    """Returns batches in the form that the models of the library read."""
    batches = []
    for number in range(settings["batches"]):
        fields = torch.from_numpy(arrays[f"fields_{number}"])
        scalars = {f"field_{index}": fields[:, index] for index in range(fields.shape[1])}
        scalars[LABEL] = torch.from_numpy(arrays[f"label_{number}"])
        # History and, in the last column, the target.
        items = torch.from_numpy(arrays[f"items_{number}"])
        mask = (items[:, :-1] > 0).float()
        batches.append((scalars, {ITEM: items.flatten()}, mask))
    return batches


def copied(batch: Any) -> Any:
    """The models write into the dictionaries they are given."""
    scalars, items, mask = batch
    return dict(scalars), dict(items), mask


def answer(values: dict[str, Any]) -> None:
    """Writes one line."""
    sys.stdout.write(json.dumps(values) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
