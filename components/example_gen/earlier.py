"""Examples of earlier runs, trained on again beside those of a new day.

A run that starts from a history snapshot builds the examples of its own rows only. Those of the
runs before it are still there, and all of them lie before the new rows, so they can join its
training split without a leak. Each snapshot names the examples it was made with, and the
snapshot before it.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from beam_jobs.examples import REPORT
from beam_jobs.snapshot import read_manifest

EXAMPLES_OF = "examples.json"
EARLIER_FILE = "earlier_examples.json"


@dataclass(frozen=True)
class Earlier:
    """What was linked.

    Attributes:
        folders: example sets, newest first.
        examples: their examples, all splits.
    """

    folders: list[str]
    examples: int


def remember_examples(snapshot: str, examples: str) -> None:
    """Notes in a snapshot which examples it was made with."""
    path = Path(snapshot) / EXAMPLES_OF
    temporary = path.with_suffix(".partial")
    temporary.write_text(json.dumps({"examples": examples}) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def link_earlier(snapshot: str | None, count: int, train: Path) -> Earlier:
    """Links the files of earlier example sets, all splits of them, into a training split.

    Args:
        snapshot: the snapshot that the new run starts from.
        count: example sets at most. Fewer are linked where the chain of snapshots ends or an
            example set has been removed.
        train: folder of the new run's training split.
    """
    folders: list[str] = []
    examples = 0
    while snapshot and len(folders) < count:
        note = Path(snapshot) / EXAMPLES_OF
        if not note.exists():
            break
        folder = Path(json.loads(note.read_text(encoding="utf-8"))["examples"])
        if not (folder / REPORT).exists():
            break
        report = json.loads((folder / REPORT).read_text(encoding="utf-8"))
        for file in sorted(folder.glob("Split-*/data_tfrecord-*")):
            split = file.parent.name.removeprefix("Split-")
            _link(file, train / f"earlier-{len(folders) + 1}-{split}-{file.name}")
        folders.append(str(folder))
        examples += sum(report["examples"].values())
        snapshot = read_manifest(snapshot).parent
    return Earlier(folders, examples)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        # Another file system, or one without hard links.
        temporary = target.with_name(f".{target.name}.partial")
        shutil.copyfile(source, temporary)
        os.replace(temporary, target)
