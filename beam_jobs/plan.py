"""What a run of the examples job reads: files found and headers checked before Beam starts."""

from __future__ import annotations

import hashlib
import json
import zoneinfo
from dataclasses import dataclass, replace

from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from beam_jobs.config import DataConfig
from beam_jobs.errors import InputError
from beam_jobs.files import STAGING, full_path
from beam_jobs.normalise import check_drop_rules
from beam_jobs.prior import prior_columns
from beam_jobs.reading import RawFile, check_columns, log_columns, match_files
from beam_jobs.snapshot import MANIFEST, REFUSED, Manifest, check_compatible, read_manifest
from beam_jobs.splits import check_split
from schemas.dataset import DatasetDescription
from schemas.dataset_sections import FileFormat, SideTable, Split
from schemas.loading import to_plain

_BLOCK = 1 << 20


@dataclass(frozen=True)
class Plan:
    """The inputs of one run.

    Attributes:
        description: the dataset.
        config: the ``data`` section.
        split: the split by time in force.
        log: files of the log.
        users: side files of users.
        items: side files of items.
        prior: files of the prior history; empty when a snapshot is given, which holds it.
        snapshot: folder of the snapshot to start from, if any.
        manifest: its manifest.
    """

    description: DatasetDescription
    config: DataConfig
    split: Split
    log: list[RawFile]
    users: list[RawFile]
    items: list[RawFile]
    prior: list[RawFile]
    snapshot: str | None = None
    manifest: Manifest | None = None


def make_plan(config: DataConfig, description: DatasetDescription) -> Plan:
    """Finds and checks the raw files of a run that starts from no snapshot.

    Raises:
        InputError: a file or column is missing, a file is empty or cannot be read, or the split or
            a pattern of the description cannot be.
    """
    split = config.split or description.split
    check_split(split, zoneinfo.ZoneInfo(description.log.timezone))
    check_drop_rules(description)
    log = match_files(config.path, description.log.files, description.log.format)
    for file in log:
        check_columns(file, log_columns(description), used_by=f"log of {description.name!r}")
    users = _side_files(config.path, description.side.user, "user fields")
    items = _side_files(config.path, description.side.item, "item fields")
    prior: list[RawFile] = []
    if description.prior_history is not None:
        try:
            prior = match_files(config.path, description.prior_history.files, FileFormat.PARQUET)
        except InputError:
            if description.prior_history.required:
                raise
        for file in prior:
            check_columns(file, prior_columns(description), used_by="prior history")
    return Plan(description, config, split, log, users, items, prior)


def with_snapshot(plan: Plan, folder: str) -> Plan:
    """Returns the plan of a run that goes on from a snapshot.

    Raises:
        InputError: the snapshot cannot be read or does not fit the run.
    """
    folder = full_path(folder, what="data.snapshot")
    manifest = read_manifest(folder)
    check_compatible(folder, manifest, plan.description, plan.config.history)
    return replace(plan, prior=[], snapshot=folder, manifest=manifest)


def input_fingerprint(plan: Plan) -> str:
    """Identifies what a run reads: the bytes of all raw files, description and settings.

    The snapshot is not part of it, so a day that is run twice is known to be the same day. The
    part before the dash is that of the log alone: a day run again with other side files or
    settings is still the same day.
    """
    log = hashlib.blake2b(digest_size=16)
    for file in plan.log:
        log.update(_content_hash(file))
    digest = hashlib.blake2b(digest_size=16)
    for file in [*plan.users, *plan.items, *plan.prior]:
        digest.update(file.path.rsplit("/", 1)[-1].encode())
        digest.update(_content_hash(file))
    settings = to_plain(plan.config)
    for key in ("path", "snapshot", "generate", "max_rejected_share", "schema"):
        settings.pop(key)
    digest.update(json.dumps([settings, to_plain(plan.description)], sort_keys=True).encode())
    return f"{log.hexdigest()}-{digest.hexdigest()}"


def log_fingerprint(fingerprint: str) -> str:
    """Returns the part of :func:`input_fingerprint` that is of the log alone."""
    return fingerprint.partition("-")[0]


def snapshot_fingerprint(folder: str) -> str:
    """Identifies the bytes of a snapshot, whose folder may be renewed in place or be a link."""
    digest = hashlib.blake2b(digest_size=16)
    pattern = FileSystems.join(folder, "*")
    for match in FileSystems.match([pattern]):
        for metadata in sorted(match.metadata_list, key=lambda found: found.path):
            file = RawFile(metadata.path, metadata.size_in_bytes, FileFormat.PARQUET)
            digest.update(metadata.path.rsplit("/", 1)[-1].encode())
            digest.update(_content_hash(file))
    return digest.hexdigest()


def latest_snapshot(root: str, fingerprint: str) -> str | None:
    """Finds the newest snapshot under ``root`` to go on from.

    A snapshot that this very log has made is passed over for the one it was made on, so that
    a day run twice does the same as the first time. So is one of a day that data validation
    refused.

    Args:
        root: folder that holds snapshots.
        fingerprint: what :func:`input_fingerprint` says of the run.

    Returns:
        Its folder, or None where there is none.
    """
    pattern = FileSystems.join(root, "*", MANIFEST)
    folders = [
        metadata.path.rsplit("/", 1)[0]
        for match in FileSystems.match([pattern])
        for metadata in match.metadata_list
        # A run that was killed left it before its examples were complete.
        if STAGING not in metadata.path
    ]
    manifests = {folder: read_manifest(folder) for folder in folders}
    day = log_fingerprint(fingerprint)
    own = [f for f in folders if log_fingerprint(manifests[f].fingerprint) == day]
    if own:
        return manifests[max(own)].parent
    folders = [f for f in folders if not FileSystems.exists(FileSystems.join(f, REFUSED))]
    return max(folders, key=lambda f: (manifests[f].last_time, f), default=None)


def _side_files(folder: str, side: SideTable | None, used_by: str) -> list[RawFile]:
    if side is None:
        return []
    files = match_files(folder, side.files, side.format)
    columns = [side.key, *(item.source for item in side.fields)]
    for file in files:
        check_columns(file, list(dict.fromkeys(columns)), used_by=used_by)
    return files


def _content_hash(file: RawFile) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    with FileSystems.open(file.path, compression_type=CompressionTypes.UNCOMPRESSED) as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.digest()
