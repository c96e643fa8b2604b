"""What a user's own click rate says, among users and within a user.

    python -m benchmarks.click_rate DATA_FOLDER [--test-start 2022-05-06] [--weight 10]

The log is KuaiRand-Pure's. Each test impression is scored by nothing but the user's click rate in
the log: over all strictly earlier impressions, over those of earlier days, and over those before
the test split. WEIGHT impressions at the mean rate are added to each user's. A table says what
these rates reach as AUC and as GAUC.

The rate before an impression ranks within a user far below chance, though it is the best estimate
of the three: a click raises the scores of the user's later impressions, so his clicked impression
is compared with unclicked ones that it has raised itself.
"""

from __future__ import annotations

import argparse
import datetime
import zoneinfo
from pathlib import Path

import numpy as np
import numpy.typing as npt

from beam_jobs.reading import match_files, read_table
from models import metrics
from schemas.dataset import load_description

Array = npt.NDArray[np.float64]

DATASET = "kuairand_pure"
DAY_MS = 24 * 3600 * 1000


def main() -> None:
    """Reads the log and prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--test-start", type=datetime.date.fromisoformat, default="2022-05-06")
    parser.add_argument("--weight", type=float, default=10.0)
    arguments = parser.parse_args()
    description = load_description(DATASET)
    zone = zoneinfo.ZoneInfo(description.log.timezone)
    start = datetime.datetime.combine(arguments.test_start, datetime.time(), zone)
    names = [description.user.column, description.time.column, str(description.label.column)]
    files = match_files(str(arguments.data), description.log.files, description.log.format)
    table = read_table(files, names)
    user, time, label = (table[name].to_numpy().astype(np.int64) for name in names)
    order = np.lexsort((time, user))
    user, time, label = user[order], time[order], label[order]
    start_ms = int(start.timestamp() * 1000)
    offset = int(start.utcoffset().total_seconds() * 1000)  # type: ignore[union-attr]
    day = (time + offset) // DAY_MS * DAY_MS - offset
    test = time >= start_ms
    mean = float(label[~test].mean())
    print(f"{int(test.sum()):,} test impressions of {len(np.unique(user[test])):,} users")
    print("| click rate of the user over | AUC | GAUC |")
    print("| --- | --- | --- |")
    for title, until in (
        ("all earlier impressions", time),
        ("impressions of earlier days", day),
        ("impressions before the test split", np.full_like(time, start_ms)),
    ):
        clicks, shown = counts_before(user, time, label, np.minimum(until, time))
        rate = (clicks + arguments.weight * mean) / (shown + arguments.weight)
        auc = metrics.auc(label[test], rate[test])
        gauc = metrics.gauc(label[test], rate[test], user[test])
        print(f"| {title} | {auc:.4f} | {gauc:.4f} |")


def counts_before(user: Array, time: Array, label: Array, until: Array) -> tuple[Array, Array]:
    """Counts each row's clicks and impressions of the same user strictly before a time.

    Args:
        user: sorted, [rows].
        time: sorted within each user, [rows].
        label: 0 or 1, [rows].
        until: a time for each row, [rows].
    """
    first = np.searchsorted(user, user)
    # User and time as one sorted key, so that one search serves all rows.
    span = int(time.max()) - int(time.min()) + 2
    rank = np.cumsum(np.concatenate([[0], user[1:] != user[:-1]]))
    key = rank * span + (time - time.min() + 1)
    last = np.searchsorted(key, rank * span + np.maximum(until - time.min() + 1, 0))
    clicks = np.concatenate([[0], np.cumsum(label)])
    return clicks[last] - clicks[first], last - first


if __name__ == "__main__":
    main()
