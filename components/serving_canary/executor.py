"""Executor of ServingCanary: checks the model, and leaves a copy of it with warm-up requests."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tfx.components.util import model_utils
from tfx.dsl.components.base import base_executor
from tfx.types import artifact_utils
from tfx.types.artifact import Artifact
from tfx.utils import path_utils

from components.baseline.strategy import MODEL_ID_PROPERTY
from schemas import features
from schemas.loading import build
from schemas.writing import undefined_as_none, write_text
from serving.canary.check import VERSION, check_model
from serving.canary.config import CanaryConfig
from serving.canary.report import CanaryReport
from serving.protocol.tf_examples import read_records

MODEL_KEY = "model"
EXAMPLES_KEY = "examples"
MODEL_BLESSING_KEY = "model_blessing"
INFRA_BLESSING_KEY = "infra_blessing"
RESULT_KEY = "result"
CANARY_FILE = "canary.json"

PASSED = "passed"
REFUSED = "refused"
SKIPPED = "skipped"

# InfraValidator's name for the same.
BLESSED_FILE = "INFRA_BLESSED"
_NOT_BLESSED = "the evaluation did not bless the model, so it was not tried in a server"
_LOGS = ("server/server.log", "reference.log")
_LOG = logging.getLogger(__name__)


class Executor(base_executor.BaseExecutor):
    """Serves the model outside the process and says in ``canary.json`` what came of it."""

    def Do(
        self,
        input_dict: dict[str, list[Artifact]],
        output_dict: dict[str, list[Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Checks the model, or states why it does not.

        Args:
            input_dict: ``model`` of the Trainer, raw ``examples`` with a test split, and
                ``model_blessing`` if wired.
            output_dict: ``infra_blessing``, an InfraBlessing artifact, and ``result``, a
                CanaryResult artifact.
            exec_properties: ``config``, the canary section as JSON.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        blessing = artifact_utils.get_single_instance(output_dict[INFRA_BLESSING_KEY])
        result = Path(artifact_utils.get_single_instance(output_dict[RESULT_KEY]).uri)
        trained = artifact_utils.get_single_instance(input_dict[MODEL_KEY])
        blessing.set_int_custom_property(MODEL_ID_PROPERTY, trained.id)
        if MODEL_BLESSING_KEY in input_dict and not _is_blessed(input_dict[MODEL_BLESSING_KEY]):
            # Without "blessed": the pusher takes that for none, the next baseline for no refusal.
            _write(result, {"status": SKIPPED, "reasons": [_NOT_BLESSED]})
            return
        config = build(CanaryConfig, json.loads(exec_properties["config"]), where="canary")
        model = Path(path_utils.serving_model_path(trained.uri)).resolve()
        examples = _read_split(input_dict[EXAMPLES_KEY], features.TEST_SPLIT)
        # Beside its last place, so that it is renamed and not copied.
        versions = Path(blessing.uri).resolve() / "versions"
        work = result.resolve() / "work"
        for leftover in (versions, work):
            shutil.rmtree(leftover, ignore_errors=True)
        report = check_model(model, examples, versions, work, config)
        if report.passed:
            _bless(blessing, versions)
            shutil.rmtree(work)
        else:
            _refuse(blessing, result, work)
        _write(
            result,
            {
                "status": PASSED if report.passed else REFUSED,
                "reasons": report.reasons(),
                **_plain(report),
            },
        )


def _is_blessed(blessings: Sequence[Artifact]) -> bool:
    return bool(blessings) and model_utils.is_model_blessed(
        artifact_utils.get_single_instance(list(blessings))
    )


def _read_split(artifacts: list[Artifact], split: str) -> Iterator[bytes]:
    """Reads examples, one of each file in turn: a file holds some of the users only."""
    folder = Path(artifact_utils.get_split_uri(artifacts, split))
    readers = [read_records(path) for path in sorted(folder.iterdir()) if path.is_file()]
    while readers:
        remaining = []
        for reader in readers:
            record = next(reader, None)
            if record is not None:
                remaining.append(reader)
                yield record
        readers = remaining


def _bless(blessing: Artifact, versions: Path) -> None:
    """Leaves the copy where Pusher looks for it, as InfraValidator does."""
    stamped = Path(path_utils.stamped_model_path(blessing.uri))
    shutil.rmtree(stamped, ignore_errors=True)
    os.rename(versions / VERSION, stamped)
    versions.rmdir()
    (Path(blessing.uri) / BLESSED_FILE).touch()
    blessing.set_int_custom_property("blessed", 1)
    blessing.set_int_custom_property("has_model", 1)


def _refuse(blessing: Artifact, result: Path, work: Path) -> None:
    blessing.set_int_custom_property("blessed", 0)
    # A refusal may lie in a busy machine. TFX answers from its cache only if all outputs are
    # still there, so the next run tries the model again.
    shutil.rmtree(blessing.uri)
    for name in _LOGS:
        if (work / name).is_file():
            os.replace(work / name, result / Path(name).name)
    shutil.rmtree(work)


def _plain(report: CanaryReport) -> dict[str, Any]:
    values = report.to_plain()
    return {key: values[key] for key in ("server", "examples", "warmup_records", "signatures")}


def _write(folder: Path, content: dict[str, Any]) -> None:
    write_text(folder / CANARY_FILE, json.dumps(undefined_as_none(content), indent=2) + "\n")
    _LOG.info("canary: %s %s", content["status"], "; ".join(content["reasons"]))
