"""Writes the simulated exposure log, the embedded default dataset.

A seed and a number of impressions make a folder of Parquet files:

=======================  ==================================================================
``impressions-*``        the log: ``user_id, item_id, time_ms, position, surface`` and the
                         outcomes ``clicked, liked, shared, hidden, dwell_seconds``
``users``, ``items``     side fields; a small share of the log's users and items is missing
``truth``                ``user_id, item_id, time_ms, position, probability``: the true click
                         probability of each impression, in the order of the log; no input
``simulation.json``      seed, size, constants and the best achievable AUC, which is that of
                         the true probability
=======================  ==================================================================

Who is shown what is documented in :mod:`beam_jobs.simulation.process`, the click rule with its
constants in :mod:`beam_jobs.simulation.click_rule`; ``docs/datasets.md`` has both.

The same seed and size make the same bytes. Users are drawn in blocks that do not depend on each
other, so that memory is that of one block however long the log is.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from beam_jobs.errors import InputError
from beam_jobs.simulation.catalogue import draw_catalogue
from beam_jobs.simulation.click_rule import RULE
from beam_jobs.simulation.process import EXPOSURE
from beam_jobs.simulation.tables import item_table, user_table
from beam_jobs.simulation.users import draw_users
from beam_jobs.simulation.writing import write_log

GENERATOR = "lengthwise simulated log"
VERSION = 1
REPORT_FILE = "simulation.json"
MIN_IMPRESSIONS = 1_000

_logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SimulationReport:
    """What was simulated.

    Attributes:
        path: the folder.
        written: False if the very same simulation was there already.
        impressions: rows of the log.
        seed: seed of the generator.
        users: users in the log.
        items: items in the log; the catalogue has more.
        click_rate: share of impressions clicked.
        ceiling_auc: AUC of the true click probability over all impressions.
        ceiling_auc_last_days: the same over the last two days, the description's test split.
        user_events: events of a user at each quantile, keyed "0.5", "0.9", ...
        item_samples: impressions of an item in the log, likewise.
        users_over_1000: users with more than 1,000 events.
    """

    path: str
    written: bool
    impressions: int
    seed: int
    users: int
    items: int
    click_rate: float
    ceiling_auc: float
    ceiling_auc_last_days: float
    user_events: dict[str, float]
    item_samples: dict[str, float]
    users_over_1000: int


def simulate(path: Path | str, *, impressions: int = 200_000, seed: int = 1) -> SimulationReport:
    """Writes a simulated log into ``path``, unless the very same one is there.

    The files are written into a hidden folder beside ``path``, which then takes its name. An
    earlier simulation in ``path`` is replaced.

    Args:
        path: folder to make; new, empty, or written by this function.
        impressions: rows of the log, at least 1,000.
        seed: seed of the generator, at least 0.

    Raises:
        ValueError: ``impressions`` or ``seed`` is out of range.
        InputError: ``path`` holds something else.
        OSError: the files cannot be written; ``path`` is as it was.
    """
    if impressions < MIN_IMPRESSIONS:
        raise ValueError(f"impressions {impressions}: at least {MIN_IMPRESSIONS} is accepted")
    if seed < 0:
        raise ValueError(f"seed {seed}: at least 0 is accepted")
    target = Path(path).resolve()
    found = _read_earlier(target)
    identity = _identity(impressions, seed)
    if found is not None and found["identity"] == identity and _is_complete(target, found):
        _logger.info("%s holds this simulation already", target)
        return SimulationReport(path=str(target), written=False, **found["report"])

    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = _make_draft(target)
        try:
            report = _write(draft, impressions, seed, identity)
            _put_in_place(draft, target)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OSError(
            error.errno, f"the simulated log cannot be written: {reason}", str(target)
        ) from error
    return SimulationReport(path=str(target), written=True, **report)


def _identity(impressions: int, seed: int) -> dict[str, Any]:
    constants = {
        "exposure": dataclasses.asdict(EXPOSURE),
        "click_rule": dataclasses.asdict(RULE),
    }
    identity = {
        "generator": GENERATOR,
        "version": VERSION,
        "impressions": impressions,
        "seed": seed,
        "parameters": constants,
    }
    return dict(json.loads(json.dumps(identity)))


def _read_earlier(target: Path) -> dict[str, Any] | None:
    """Returns the report file of an earlier simulation, None if there is nothing at ``target``.

    Raises:
        InputError: there is something that no simulation wrote.
    """
    if not target.exists():
        return None
    if not target.is_dir():
        raise InputError(f"{target}: a folder is expected for the simulated log, found a file")
    names = {entry.name for entry in target.iterdir()}
    if not names:
        return None
    try:
        found = json.loads((target / REPORT_FILE).read_text(encoding="utf-8"))
        known = {REPORT_FILE, *found["files"]}
        ours = found["identity"]["generator"] == GENERATOR
    except (OSError, ValueError, KeyError, TypeError):
        known, ours = set(), False
    strangers = sorted(names - known)
    if not ours or strangers:
        raise InputError(
            f"{target}: holds files that are not of a simulated log ({', '.join(strangers[:3])}); "
            "a new or empty folder, or an earlier simulation, is accepted"
        )
    return dict(found)


def _is_complete(target: Path, found: dict[str, Any]) -> bool:
    sizes = found["files"]
    return all(
        (target / name).is_file() and (target / name).stat().st_size == size
        for name, size in sizes.items()
    )


def _make_draft(target: Path) -> Path:
    """Makes the folder to write into, and removes those of processes that were killed."""
    prefix = f".{target.name}.draft-"
    for left in target.parent.glob(f"{prefix}*"):
        if not _is_running(left.name.removeprefix(prefix)):
            shutil.rmtree(left, ignore_errors=True)
    draft = target.parent / f"{prefix}{os.getpid()}"
    draft.mkdir()
    return draft


def _is_running(process: str) -> bool:
    if not process.isdigit() or int(process) == os.getpid():
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _put_in_place(draft: Path, target: Path) -> None:
    old = draft / "old"
    if target.exists() and any(target.iterdir()):
        target.rename(old)
    try:
        (draft / "new").rename(target)
    except OSError:
        if old.exists():
            old.rename(target)
        raise


def _write(draft: Path, impressions: int, seed: int, identity: dict[str, Any]) -> dict[str, Any]:
    folder = draft / "new"
    folder.mkdir()
    users, catalogue = draw_users(impressions, seed), draw_catalogue(impressions, seed)
    pq.write_table(user_table(users), folder / "users.parquet", compression="zstd")
    pq.write_table(item_table(catalogue), folder / "items.parquet", compression="zstd")
    report = write_log(folder, users, catalogue, seed)
    files = {file.name: file.stat().st_size for file in sorted(folder.iterdir())}
    text = json.dumps({"identity": identity, "report": report, "files": files}, indent=2)
    (folder / REPORT_FILE).write_text(text + "\n", encoding="utf-8")
    return report
