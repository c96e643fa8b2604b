"""What has to be known before a pipeline can be made: data, snapshot, schema, source hashes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from beam_jobs.errors import InputError
from beam_jobs.plan import (
    Plan,
    input_fingerprint,
    latest_snapshot,
    log_fingerprint,
    make_plan,
    snapshot_fingerprint,
    with_snapshot,
)
from beam_jobs.simulate import simulate
from components.pusher.versions import read_versions
from models.warm_start_index import WarmStartError, read_index
from pipeline.config import RunConfig
from pipeline.curated import schema_source
from schemas.dataset import DatasetDescription, load_description
from schemas.writing import write_bytes

SNAPSHOTS = "snapshots"
SCHEMAS = "schemas"
CHECKPOINTS = "checkpoints"
PIPELINE = "pipeline"
METADATA = "metadata.sqlite"

TRANSFORM_SOURCES = (
    "models/transform.py",
    "models/embedding_widths.py",
    "models/hashing.py",
    "models/id_ledger.py",
    "models/moments.py",
    "models/plan.py",
    "models/config.py",
    "components/transform",
    "beam_jobs/encode.py",
)


@dataclass(frozen=True)
class Prepared:
    """A run whose inputs are there and checked.

    Attributes:
        config: the run.
        description: the dataset.
        plan: the raw files, and the snapshot to start from.
        fingerprint: identifies the bytes of the raw data, the description and its settings.
        snapshot_fingerprint: identifies the bytes of the snapshot, if there is one.
        schema: the curated schema.
        warm_start: folder of the model that training starts from; empty for none.
    """

    config: RunConfig
    description: DatasetDescription
    plan: Plan
    fingerprint: str
    snapshot_fingerprint: str
    schema: Path
    warm_start: str = ""

    @property
    def root(self) -> Path:
        """Folder of the run."""
        return Path(self.config.run.root).resolve()


def prepare(config: RunConfig) -> Prepared:
    """Finds and checks everything a run reads, making the simulated log if it is asked for.

    Raises:
        ConfigError: there is no such dataset description, or it is wrong.
        InputError: raw data, snapshot or schema are missing or cannot be used.
    """
    description, plan, fingerprint = prepare_data(config)
    return Prepared(
        config=config,
        description=description,
        plan=plan,
        fingerprint=fingerprint,
        snapshot_fingerprint=snapshot_fingerprint(plan.snapshot) if plan.snapshot else "",
        schema=find_schema(config, description),
        warm_start=find_warm_start(config, fingerprint),
    )


def prepare_data(config: RunConfig) -> tuple[DatasetDescription, Plan, str]:
    """Finds and checks the raw data of a run.

    Returns:
        The dataset, the plan of what is read, and the fingerprint of the input.

    Raises:
        ConfigError: there is no such dataset description, or it is wrong.
        InputError: raw data or snapshot are missing or cannot be used.
    """
    description = load_description(config.data.dataset)
    if config.data.generate is not None:
        simulate(
            config.data.path,
            impressions=config.data.generate.impressions,
            seed=config.data.generate.seed,
        )
    plan = make_plan(config.data, description)
    fingerprint = input_fingerprint(plan)
    snapshot = find_snapshot(config, fingerprint)
    if snapshot is not None:
        plan = with_snapshot(plan, snapshot)
    return description, plan, fingerprint


def find_snapshot(config: RunConfig, fingerprint: str) -> str | None:
    """Resolves ``data.snapshot``: none, latest or a path."""
    if config.data.snapshot == "none":
        return None
    if config.data.snapshot == "latest":
        root = Path(config.run.root).resolve() / SNAPSHOTS
        return latest_snapshot(str(root), fingerprint)
    return config.data.snapshot


def find_schema(config: RunConfig, description: DatasetDescription) -> Path:
    """Finds the curated schema of a run and keeps a copy named by its content.

    Raises:
        InputError: there is none, or it cannot be read as one.
    """
    source = schema_source(config, description)
    content = source.read_bytes()
    try:
        text_format.Parse(content, schema_pb2.Schema())
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise InputError(
            f"data.schema: {source}: a TensorFlow Metadata schema as text is accepted: {error}"
        ) from error
    # The cache knows a schema by its path alone, so an edited one needs another path.
    digest = hashlib.blake2b(content, digest_size=8).hexdigest()
    copy = Path(config.run.root).resolve() / SCHEMAS / f"{source.stem}-{digest}.pbtxt"
    if not copy.exists():
        write_bytes(copy, content)
    return copy


def find_warm_start(config: RunConfig, fingerprint: str) -> str:
    """Resolves ``train.warm_start``: none, latest or a path.

    ``latest`` is the newest version that keeps its weights, but one older than any of this very
    log: a day that is run again, with other settings or after a later day, starts where it started.

    Raises:
        InputError: the path is no model that keeps its weights.
    """
    wanted = config.train.warm_start
    if wanted == "none":
        return ""
    if wanted != "latest":
        try:
            read_index(wanted)
        except WarmStartError as error:
            raise InputError(str(error)) from error
        return str(Path(wanted).resolve())
    destination, day = config.destination.resolve(), log_fingerprint(fingerprint)
    newest = ""
    for version in read_versions(destination) if destination.is_dir() else []:
        try:
            trained_on = read_index(str(version.path))["data_fingerprint"]
        except WarmStartError:
            continue
        if log_fingerprint(trained_on) == day:
            break
        newest = str(version.path)
    return newest


def source_hash(*sources: str) -> str:
    """Returns a hash of Python files or folders of them, so that caches notice edits."""
    digest = hashlib.blake2b(digest_size=8)
    top = Path(__file__).parent.parent
    for source in sources:
        place = top / source
        for path in [place] if place.is_file() else sorted(place.rglob("*.py")):
            digest.update(str(path.relative_to(top)).encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()
