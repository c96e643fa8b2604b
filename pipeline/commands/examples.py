"""``lengthwise examples``: the Beam job on its own, on any runner."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from beam_jobs.errors import InputError
from pipeline.config import RunConfig, load_config
from pipeline.environment import prepare_environment
from pipeline.exits import EXIT_BAD_INPUT, EXIT_OK
from schemas.imports import without_collection

if TYPE_CHECKING:
    from beam_jobs.examples import ExamplesReport

DEFAULT_RUNNER = "--runner=apache_beam.runners.portability.fn_api_runner.FnApiRunner"


def main(arguments: argparse.Namespace, beam_args: list[str]) -> int:
    """Builds the examples of a run and prints what became of the rows."""
    config = load_config(arguments.config, arguments.overrides)
    dead_letter = f"{arguments.output.rstrip('/')}.dead_letter.jsonl"
    # Beam logs what a step raises with its own stack, before the one line that says it below.
    logging.getLogger("apache_beam.runners.common").addFilter(_is_no_input_error)
    try:
        report = build_examples(
            config, arguments.output, arguments.snapshot_output, beam_args, dead_letter
        )
    except InputError as error:
        from apache_beam.io.filesystems import FileSystems

        print(f"lengthwise: {error}", file=sys.stderr)
        if FileSystems.exists(dead_letter):
            print(f"rows put aside: {dead_letter}", file=sys.stderr)
        return EXIT_BAD_INPUT
    for split, count in report.examples.items():
        print(f"{split:<12}{count:>12,} examples, {report.positives[split]:,} positive")
    for name, count in report.counts.items():
        print(f"{name:<40}{count:>12,}")
    print(f"{report.seconds:.1f} s: {arguments.output}")
    return EXIT_OK


def _is_no_input_error(record: logging.LogRecord) -> bool:
    return not isinstance(record.msg, InputError)


def build_examples(
    config: RunConfig,
    output: str,
    snapshot_output: str | None = None,
    beam_args: Sequence[str] = (),
    failed_dead_letter: str | None = None,
) -> ExamplesReport:
    """Runs the Beam job of a configuration.

    Raises:
        InputError: the raw data cannot be used; the message says why.
    """
    prepare_environment()
    with without_collection():
        import apache_beam as beam
        from apache_beam.io.filesystems import FileSystems
        from apache_beam.options.pipeline_options import PipelineOptions

        from beam_jobs.examples import run_examples
        from pipeline.prepare import prepare_data

    flags = [*config.run.beam_args, *beam_args]
    if not any(flag.startswith("--runner") for flag in flags):
        flags = [DEFAULT_RUNNER, *flags]
    if failed_dead_letter is not None and FileSystems.exists(failed_dead_letter):
        # Of an earlier run; what this one finds out first has no rows.
        FileSystems.delete([failed_dead_letter])
    _, plan, fingerprint = prepare_data(config)
    return run_examples(
        plan,
        lambda: beam.Pipeline(options=PipelineOptions(flags, save_main_session=False)),
        output,
        snapshot_output=snapshot_output,
        fingerprint=fingerprint,
        failed_dead_letter=failed_dead_letter,
    )
