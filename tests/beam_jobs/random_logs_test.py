"""The whole job on random logs: equal to the slow reference, however the log is cut."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tests.beam_jobs.job import (
    all_records,
    as_multiset,
    configure,
    decoded,
    describe,
    run_job,
    write_log,
)
from tests.beam_jobs.random_logs import ZONES, RawLog, histories, logs
from tests.beam_jobs.slow_reference import reference

# A run of the job costs a second: a failure is not shrunk.
PHASES = (Phase.explicit, Phase.generate)
KINDS = st.sampled_from(["int", "string"])
SPLITS = st.sampled_from(
    [
        {"validation_start": "2024-03-06", "test_start": "2024-03-07"},
        {
            "train_start": "2024-03-05",
            "validation_start": "2024-03-06",
            "test_start": "2024-03-07",
            "end": "2024-03-07T01:00:00+00:00",
        },
        {"validation": "24h", "test": "2d"},
    ]
)


def write(folder: Path, log: RawLog, kind: str, **how: Any) -> None:
    """Writes a drawn log."""
    write_log(folder, log.rows, users=log.users, items=log.items, prior=log.prior, ids=kind, **how)


@settings(max_examples=10, phases=PHASES)
@given(st.data())
def test_the_examples_are_those_of_the_slow_reference(data: st.DataObject) -> None:
    kind = data.draw(KINDS)
    log = data.draw(logs(kind))
    split = data.draw(SPLITS)
    fmt = data.draw(st.sampled_from(["parquet", "csv", "jsonl"]))
    zone = data.draw(st.sampled_from(ZONES))
    source = {"files": ["log*"], "format": fmt, "timezone": zone}
    description = describe(ids=kind, fmt=fmt, log=source)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        config = configure(folder / "raw", history=data.draw(histories()), split=split)
        # Of duplicates in different files any may be the first to arrive.
        write(folder / "raw", log, kind, fmt=fmt, files=2)
        report = run_job(description, config, folder / "out")
        found = decoded(folder / "out")

    expected = reference(
        log.rows, description, config, users=log.users, items=log.items, prior=log.prior
    )
    for name, examples in expected.examples.items():
        assert as_multiset(found[name]) == as_multiset(examples), name
    rejected: dict[str, int] = {}
    for reason, number in report.counts.items():
        if reason.startswith("rejected:"):
            short = reason.split(":")[1]
            rejected[short] = rejected.get(short, 0) + number
    assert rejected == dict(expected.rejected)
    assert report.last_time == expected.last_time
    assert report.counts["rows_read"] == len(log.rows)


@settings(max_examples=3, phases=PHASES)
@given(st.data())
def test_shards_files_and_row_order_do_not_matter(data: st.DataObject) -> None:
    kind = data.draw(KINDS)
    log = data.draw(logs(kind))
    shuffled = RawLog(data.draw(st.permutations(log.rows)), log.users, log.items, log.prior)
    history = data.draw(histories())
    description = describe(ids=kind)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write(folder / "raw", log, kind)
        write(folder / "cut", shuffled, kind, files=3)
        seen = []
        for number, (raw, shards) in enumerate([("raw", 1), ("raw", 3), ("cut", 8)]):
            config = configure(folder / raw, history=history, shards=shards)
            run_job(description, config, folder / f"out-{number}")
            seen.append(all_records(folder / f"out-{number}"))
    assert seen[0] == seen[1]
    assert seen[0] == seen[2]
