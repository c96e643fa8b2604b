"""``lengthwise data``: simulate a log, describe one, propose a schema."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import yaml

from beam_jobs.errors import InputError
from pipeline.config import RunConfig, load_config
from pipeline.environment import prepare_environment
from pipeline.exits import EXIT_BAD_INPUT, EXIT_OK
from pipeline.terminal import captured_output
from schemas.dataset import load_description
from schemas.loading import to_plain
from schemas.writing import write_text


def main(arguments: argparse.Namespace) -> int:
    """Runs the action."""
    actions = {"simulate": _simulate, "describe": _describe, "propose-schema": _propose_schema}
    try:
        return actions[arguments.action](arguments)
    except InputError as error:
        print(f"lengthwise: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT


def _simulate(arguments: argparse.Namespace) -> int:
    from beam_jobs.simulate import simulate

    try:
        report = simulate(arguments.path, impressions=arguments.impressions, seed=arguments.seed)
    except ValueError as error:
        raise InputError(str(error)) from error
    sys.stdout.write(yaml.safe_dump(to_plain(report), sort_keys=False))
    return EXIT_OK


def _describe(arguments: argparse.Namespace) -> int:
    config = load_config(arguments.config, arguments.overrides)
    description = load_description(config.data.dataset)
    from beam_jobs.plan import make_plan

    try:
        plan = make_plan(config.data, description)
    except InputError as error:
        if config.data.generate is None:
            raise
        raise InputError(f"{error}; a run makes the log, as data.generate says") from error
    files = {
        name: [f"{file.path} ({file.size:,} bytes)" for file in getattr(plan, name)]
        for name in ("log", "users", "items", "prior")
    }
    values = {
        "description": to_plain(description),
        "split": to_plain(plan.split),
        "history": to_plain(config.data.history),
        "files": files,
    }
    sys.stdout.write(yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=200))
    return EXIT_OK


def _propose_schema(arguments: argparse.Namespace) -> int:
    config = load_config(arguments.config, arguments.overrides)
    if arguments.output is not None and Path(arguments.output).is_dir():
        raise InputError(f"--output {arguments.output!r}: a file is accepted, found a folder")
    prepare_environment()
    with tempfile.TemporaryDirectory(prefix="lengthwise-") as folder:
        log = Path(folder) / "log"
        with captured_output(log):
            text = _proposed_schema(config, arguments.examples, Path(folder))
    if arguments.output is None:
        sys.stdout.write(text)
        return EXIT_OK
    output = Path(arguments.output)
    write_text(output, text)
    print(f"wrote {output}: look it over before a run is held to it")
    return EXIT_OK


def _proposed_schema(config: RunConfig, examples: str | None, folder: Path) -> str:
    from components.schema_gate.propose import propose_schema
    from pipeline.commands.examples import build_examples

    if examples is None:
        examples = str(folder / "examples")
        build_examples(config, examples)
    return propose_schema(examples)
