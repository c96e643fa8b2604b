"""Writes a folder from which TensorFlow Serving runs a pushed model, after a look at the model.

TensorFlow Serving itself is not needed for this, nor is TensorFlow.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError

from schemas.loading import to_plain
from schemas.writing import write_text
from serving.deploy.config import DeployConfig
from serving.deploy.files import compose, kubernetes, server_files, to_yaml
from serving.deploy.readme import readme
from serving.protocol import messages
from serving.protocol.tf_examples import read_records
from serving.server.versions.folders import find_versions

RECORD = "deployment.json"
SERVE_TAG = "serve"
WARMUP = Path("assets.extra", "tf_serving_warmup_requests")

_VERSION_OF_TAG = re.compile(r":(\d+)\.(\d+)")


class DeployError(ValueError):
    """A model folder that TensorFlow Serving could not serve, or a place that is taken."""


@dataclass(frozen=True, kw_only=True)
class ModelVersion:
    """What a version folder holds, as far as can be seen without loading it.

    Attributes:
        version: its number.
        signatures: names of its signatures.
        tensorflow_version: TensorFlow that wrote it.
        warmup_rows: rows of its largest warm-up request; None if it brings no such requests.
    """

    version: int
    signatures: tuple[str, ...]
    tensorflow_version: str
    warmup_rows: int | None


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """What was written.

    Attributes:
        folder: where.
        served: versions that the server would load now, newest first.
        warnings: what may be meant and may be a mistake.
    """

    folder: Path
    served: tuple[ModelVersion, ...]
    warnings: tuple[str, ...]


def write_deployment(model_dir: Path, output: Path, config: DeployConfig) -> Deployment:
    """Writes the files of a deployment.

    Args:
        model_dir: folder of numbered versions, as Pusher writes it.
        output: folder to write: new, empty, or of an earlier deployment, whose files are replaced.
        config: what to write.

    Raises:
        DeployError: the model could not be served, or the folder holds something else.
    """
    served = check_model(model_dir, config)
    if output.exists() and not (output / RECORD).is_file() and any(output.iterdir()):
        raise DeployError(f"{output}: a new or empty folder, or that of a deployment, is expected")
    mounted = str(model_dir.resolve())
    files = {
        "README.md": readme(config, mounted),
        "compose.yaml": to_yaml(compose(config, mounted)),
        RECORD: json.dumps({"model_dir": mounted, **to_plain(config)}, indent=2) + "\n",
    }
    files |= {f"config/{name}": text for name, text in server_files(config).items()}
    files |= {
        f"kubernetes/{name}": to_yaml(manifest) for name, manifest in kubernetes(config).items()
    }
    if (output / RECORD).is_file():
        _write_again(output, files)
    else:
        _write_new(output, files)
    return Deployment(folder=output, served=served, warnings=tuple(_warnings(served, config)))


def check_model(model_dir: Path, config: DeployConfig) -> tuple[ModelVersion, ...]:
    """Reads the versions that a server with this configuration would load, newest first.

    Raises:
        DeployError: there is none, or one of them could not be loaded; says which and why.
    """
    found = version_folders(model_dir)
    numbers = sorted(found, reverse=True)
    if config.versions.specific:
        missing = [str(one) for one in config.versions.specific if one not in numbers]
        if missing:
            raise DeployError(
                f"versions.specific {', '.join(missing)}: {model_dir} has {_listed(numbers)}"
            )
        numbers = sorted(config.versions.specific, reverse=True)
    elif not config.versions.all:
        numbers = numbers[: config.versions.latest]
    for label, version in config.labels.items():
        if version not in numbers:
            raise DeployError(
                f"labels.{label} {version}: not among the versions served, {_listed(numbers)}"
            )
    served = tuple(read_version(found[one]) for one in numbers)
    largest = config.batching.max_batch_size
    for one in served:
        if config.batching.enabled and (one.warmup_rows or 0) > largest:
            raise DeployError(
                f"batching.max_batch_size {largest}: version {one.version} has a warm-up request "
                f"of {one.warmup_rows} rows, which would be refused, and so the version not be "
                f"loaded; at least {one.warmup_rows} is accepted, or a model whose "
                "canary.batch_sizes are smaller"
            )
    return served


def version_folders(model_dir: Path) -> dict[int, Path]:
    """Returns the version folders by number.

    Raises:
        DeployError: there is no such folder, or no version in it.
    """
    if not model_dir.is_dir():
        raise DeployError(f"{model_dir}: a folder of numbered versions is expected")
    found = find_versions(model_dir)
    if not found:
        hint = " (it is a version itself; give the folder above it)"
        raise DeployError(
            f"{model_dir}: has no numbered version folder"
            f"{hint if (model_dir / 'saved_model.pb').exists() else ''}"
        )
    return found


def read_version(folder: Path) -> ModelVersion:
    """Reads the description of a version.

    Raises:
        DeployError: it could not be loaded.
    """
    model = messages.SavedModel()
    try:
        model.ParseFromString((folder / "saved_model.pb").read_bytes())
    except OSError as error:
        raise DeployError(f"{folder}: saved_model.pb: {error.strerror or error}") from None
    except DecodeError:
        raise DeployError(f"{folder}: saved_model.pb is not a SavedModel, or is damaged") from None
    graphs = [one for one in model.meta_graphs if SERVE_TAG in one.meta_info_def.tags]
    if len(graphs) != 1:
        raise DeployError(
            f"{folder}: one graph with the tag {SERVE_TAG!r} is expected, found {len(graphs)}"
        )
    if not (folder / "variables" / "variables.index").is_file():
        raise DeployError(f"{folder}: variables/variables.index is missing")
    signatures = sorted(name for name in graphs[0].signature_def if not name.startswith("__"))
    if not signatures:
        raise DeployError(f"{folder}: has no signature to call")
    return ModelVersion(
        version=int(folder.name),
        signatures=tuple(signatures),
        tensorflow_version=graphs[0].meta_info_def.tensorflow_version,
        warmup_rows=_warmup_rows(folder / WARMUP),
    )


def _warmup_rows(path: Path) -> int | None:
    if not path.is_file():
        return None
    try:
        logs = [messages.PredictionLog.FromString(record) for record in read_records(path)]
    except (OSError, ValueError, DecodeError) as error:
        raise DeployError(f"{path}: cannot be read as warm-up requests: {error}") from None
    return max((_rows(log) for log in logs), default=0)


def _rows(log: Any) -> int:
    """Rows of a logged request, as the server's batching counts them."""
    kind = log.WhichOneof("log_type")
    if kind == "predict_log":
        shapes = [one.tensor_shape.dim for one in log.predict_log.request.inputs.values()]
        return max((shape[0].size for shape in shapes if shape), default=0)
    if kind in ("classify_log", "regress_log", "multi_inference_log"):
        examples = getattr(log, kind).request.input
        return max(
            len(examples.example_list.examples), len(examples.example_list_with_context.examples)
        )
    return 0


def _warnings(served: tuple[ModelVersion, ...], config: DeployConfig) -> list[str]:
    found = []
    tag = _VERSION_OF_TAG.search(config.image)
    for one in served:
        written = tuple(int(part) for part in one.tensorflow_version.split(".")[:2] if part)
        if tag is not None and written > tuple(int(part) for part in tag.groups()):
            found.append(
                f"version {one.version} was written by TensorFlow {one.tensorflow_version}, newer "
                f"than {config.image}, which may lack an operation of it"
            )
        if one.warmup_rows is None:
            found.append(f"version {one.version} has no {WARMUP}: its first calls will be slow")
    return found


def _write_new(output: Path, files: Mapping[str, str]) -> None:
    """Makes the folder, which appears only when it is complete."""
    staged = output.with_name(f"{output.name}.staged.{os.getpid()}")
    try:
        for name, text in files.items():
            path = staged / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        staged.rename(output)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _write_again(output: Path, files: Mapping[str, str]) -> None:
    """Replaces file by file: a server that runs sees the folder it has mounted, not its name."""
    for name, text in files.items():
        (output / name).parent.mkdir(exist_ok=True)
        write_text(output / name, text)
    for folder in {Path(name).parent for name in files} - {Path()}:
        for path in (output / folder).iterdir():
            if f"{folder}/{path.name}" not in files:
                path.unlink()


def _listed(numbers: list[int]) -> str:
    shown: Any = numbers if len(numbers) <= 10 else [*numbers[:10], "…"]
    return ", ".join(str(one) for one in shown) or "none"
