"""Refuses a log with too many bad rows or values, or with a split that is empty or of one class."""

from __future__ import annotations

import itertools
import zoneinfo
from collections import Counter
from typing import Any

from beam_jobs.errors import InputError
from beam_jobs.events import Bounds
from beam_jobs.normalise import invalid_value
from beam_jobs.plan import Plan
from beam_jobs.reading import log_columns, read_batches
from beam_jobs.splits import show
from schemas import features

# Rows that are put aside as a matter of course do not speak against a log.
_EXPECTED_REASONS = ("late", "duplicate", "after_end")


def check_rejected(counts: Counter[str], plan: Plan) -> None:
    """Checks that not too many rows or values of the log are unusable.

    Raises:
        InputError: names the reasons and how many rows each holds for.
    """
    rows, limit = counts["rows_read"], plan.config.max_rejected_share
    if rows == 0:
        raise InputError("the log has no rows")
    reasons = {
        key.partition(":")[2]: number
        for key, number in counts.items()
        if key.startswith("rejected:") and key.partition(":")[2] not in _EXPECTED_REASONS
    }
    if sum(reasons.values()) > limit * rows:
        listed = "; ".join(f"{n} rows: {reason}" for reason, n in sorted(reasons.items()))
        raise InputError(
            f"{sum(reasons.values())} of {rows} rows of the log cannot be used, more than "
            f"data.max_rejected_share ({limit:g}) allows: {listed}"
        )
    for key, number in sorted(counts.items()):
        kind, _, name = key.partition(":")
        if kind == "invalid_values" and number > limit * rows:
            accepted, value = _invalid_value(plan, name)
            raise InputError(
                f"column {name!r}: {number} of {rows} values are no {accepted}, such as "
                f"{value!r:.80}, more than data.max_rejected_share ({limit:g}) allows"
            )


def _invalid_value(plan: Plan, name: str) -> tuple[str, Any]:
    """Reads a log that is refused once more, for what a column accepts and what it holds."""
    columns = log_columns(plan.description)
    batches = (batch for file in plan.log for batch in read_batches(file, columns, []))
    found = (invalid_value(batch, plan.description, name) for batch in batches)
    return next(pair for pair in found if pair is not None)


def check_splits(
    plan: Plan,
    examples: dict[str, int],
    positives: dict[str, int],
    counts: Counter[str],
    bounds: Bounds,
    last_time: int,
) -> None:
    """Checks that each split has examples, of both classes.

    Raises:
        InputError: names the split, where it lies and where the log ends.
    """
    zone = zoneinfo.ZoneInfo(plan.description.log.timezone)
    cuts = [bounds.train_start, bounds.validation_start, bounds.test_start, bounds.end]
    reach = dict(
        zip(features.SPLITS, itertools.pairwise(show(cut, zone) for cut in cuts), strict=True)
    )
    for name in features.SPLITS:
        if name in plan.config.allow_empty and not examples[name]:
            continue
        if not examples[name]:
            late = counts.get("rejected:late", 0)
            hint = f"; {late} rows are older than the snapshot {plan.snapshot}" if late else ""
            if late and plan.manifest is not None and plan.manifest.parent:
                hint += f" (a corrected log of its day wants data.snapshot={plan.manifest.parent})"
            beyond = counts.get("rejected:after_end", 0)
            first, end = reach[name]
            hint += f"; {beyond} rows come after the end or the last full day" if beyond else ""
            raise InputError(
                f"the {name} split is empty: of {counts['rows_read']} rows none lies in it{hint}. "
                f"Rows by split: {examples}; it reaches from {first} to {end}, and the last event "
                f"is of {show(last_time, zone)}; check the split of the dataset or data.split"
            )
        if positives[name] in (0, examples[name]):
            label = 0 if positives[name] == 0 else 1
            raise InputError(
                f"the {name} split has one class only: all {examples[name]} labels are {label}"
            )
