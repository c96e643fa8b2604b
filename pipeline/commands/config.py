"""``lengthwise config show``."""

from __future__ import annotations

import argparse
import sys

from pipeline.config import load_config, to_yaml


def main(arguments: argparse.Namespace) -> int:
    """Prints the resolved configuration."""
    sys.stdout.write(to_yaml(load_config(arguments.config, arguments.overrides)))
    return 0
