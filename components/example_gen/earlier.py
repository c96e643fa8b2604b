"""Examples of earlier runs, trained on again beside those of a new day.

A run that starts from a history snapshot builds the examples of its own rows only. Those of the
runs before it are still there, and all of them lie before the new rows, so they can join its
training split without a leak. Each snapshot names the examples it was made with, and the
snapshot before it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from beam_jobs.examples import REPORT
from beam_jobs.snapshot import EXAMPLES_OF, read_manifest
from schemas.dataset import DatasetDescription

EARLIER_FILE = "earlier_examples.json"

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Earlier:
    """What was linked.

    Attributes:
        folders: example sets, newest first.
        examples: their examples, all splits.
        features: identifies the features of the new examples; sets with others are not linked.
        stopped: why fewer sets than asked for were linked, if so.
    """

    folders: list[str]
    examples: int
    features: str
    stopped: str | None


def features_hash(description: DatasetDescription) -> str:
    """Identifies names and types of the features that examples of a dataset hold."""
    fields = [(item.name, item.type.value) for item in description.fields]
    parts = [fields, description.history_fields, description.user.type, description.item.type]
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=8).hexdigest()


def link_earlier(snapshot: str | None, count: int, train: Path, features: str) -> Earlier:
    """Links the files of earlier example sets, all splits of them, into a training split.

    Args:
        snapshot: the snapshot that the new run starts from.
        count: example sets at most. Fewer are linked where the chain of snapshots ends, an
            example set has been removed, or its features are others; the log says so.
        train: folder of the new run's training split.
        features: what :func:`features_hash` says of the run.
    """
    folders: list[str] = []
    examples = 0
    stopped = None
    while len(folders) < count:
        if not snapshot:
            stopped = "the chain of snapshots begins there"
            break
        note = Path(snapshot) / EXAMPLES_OF
        if not note.exists():
            stopped = f"{snapshot} does not say which examples it was made with"
            break
        folder = Path(json.loads(note.read_text(encoding="utf-8"))["examples"])
        if not (folder / REPORT).exists() or not (folder / EARLIER_FILE).exists():
            stopped = f"{folder} has been removed, or was not made by a run"
            break
        if json.loads((folder / EARLIER_FILE).read_text(encoding="utf-8"))["features"] != features:
            stopped = f"{folder} has other features"
            break
        report = json.loads((folder / REPORT).read_text(encoding="utf-8"))
        for file in sorted(folder.glob("Split-*/data_tfrecord-*")):
            split = file.parent.name.removeprefix("Split-")
            _link(file, train / f"earlier-{len(folders) + 1}-{split}-{file.name}")
        folders.append(str(folder))
        examples += sum(report["examples"].values())
        snapshot = read_manifest(snapshot).parent
    if stopped is not None:
        _logger.warning("%d of %d earlier example sets: %s", len(folders), count, stopped)
    return Earlier(folders, examples, features, stopped)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        # Another file system, or one without hard links.
        temporary = target.with_name(f".{target.name}.partial")
        shutil.copyfile(source, temporary)
        os.replace(temporary, target)
