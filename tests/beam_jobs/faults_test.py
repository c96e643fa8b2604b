"""What a full disk or a runner makes of an error still names what is wrong."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from beam_jobs.errors import InputError, root_cause
from schemas.loading import to_plain
from tests.beam_jobs.job import DAY, RUNNER, configure, describe, impression, run_job, write_log

CHECKOUT = Path(__file__).resolve().parents[2]


def test_a_full_disk_is_named_with_the_file(tmp_path: Path) -> None:
    rows = [impression(user, user, DAY + user, user % 2) for user in range(3000)]
    write_log(tmp_path / "raw", rows)
    code = f"""
import resource
import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from beam_jobs.config import DataConfig
from beam_jobs.examples import run_examples
from beam_jobs.plan import make_plan
from schemas.dataset import DatasetDescription
from schemas.loading import build
description = build(DatasetDescription, {to_plain(describe())!r}, where="test")
config = build(DataConfig, {to_plain(configure(tmp_path / "raw"))!r}, where="test")
plan = make_plan(config, description)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    pipeline = lambda: beam.Pipeline(options=PipelineOptions([{RUNNER!r}]))
    run_examples(plan, pipeline, {str(tmp_path / "out")!r}, snapshot_output={str(tmp_path / "s")!r})
except OSError as error:
    print("OSERROR", error.errno, error.filename)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("OSERROR")]
    _, number, name = line.split(" ")
    assert int(number) == 27
    assert "Split-train/data_tfrecord-0000" in name
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


@pytest.mark.parametrize(
    "wrap",
    [
        lambda text: RuntimeError(f"Traceback ...\n  File 'x'\nbeam_jobs.errors.{text}\n\nmore"),
        lambda text: RuntimeError(f"{text} [while running 'Clean-ptransform-12']"),
        lambda text: RuntimeError(
            f"Pipeline failed: beam_jobs.errors.{text} [while running 'X']\nat"
        ),
    ],
)
def test_the_cause_is_found_under_what_a_runner_makes_of_it(
    wrap: Callable[[str], Exception],
) -> None:
    found = root_cause(wrap("InputError: a: bad ['x', 'y']"))
    assert (type(found), str(found)) == (InputError, "a: bad ['x', 'y']")
    full = root_cause(wrap("OSError: [Errno 28] No space left on device: '/d/f'"))
    assert isinstance(full, OSError)
    assert (full.errno, full.filename) == (28, "/d/f")
    other = wrap("KeyError: 3")
    assert root_cause(other) is other


@pytest.mark.slow
def test_the_cause_is_found_with_worker_processes(tmp_path: Path) -> None:
    rows = [{**impression(n, n, DAY + n, 0), "clicked": None} for n in range(11)]
    write_log(tmp_path / "raw", rows)
    flags = [
        RUNNER,
        "--direct_running_mode=multi_processing",
        "--direct_num_workers=2",
        "--sdk_container_image=unused",
    ]
    config = configure(tmp_path / "raw", max_rejected_share=0.1)
    with pytest.raises(InputError, match="11 of 11 rows of the log cannot be used"):
        run_job(describe(), config, tmp_path / "out", flags=flags)
