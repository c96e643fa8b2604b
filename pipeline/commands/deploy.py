"""``lengthwise deploy``: the files that TensorFlow Serving runs a pushed model with."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pipeline.exits import EXIT_BAD_INPUT, EXIT_OK
from schemas.loading import apply_overrides, build
from serving.deploy.config import DeployConfig
from serving.deploy.write import DeployError, write_deployment


def main(arguments: argparse.Namespace) -> int:
    """Checks the model, writes the folder and says what to do with it."""
    named = {"name": arguments.name} if arguments.name is not None else {}
    config = build(DeployConfig, apply_overrides(named, arguments.overrides), where="deploy")
    try:
        written = write_deployment(Path(arguments.model_dir), Path(arguments.output), config)
    except DeployError as error:
        print(f"lengthwise: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    for one in written.served:
        print(f"version {one.version}: {', '.join(one.signatures)}")
    for warning in written.warnings:
        print(f"lengthwise: warning: {warning}", file=sys.stderr)
    print(f"{written.folder}: README.md says how to run {config.image}; nothing was started")
    return EXIT_OK
