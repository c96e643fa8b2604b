"""The command line: ``lengthwise``. Imports what a command needs only when it runs."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from pipeline.exits import EXIT_BAD_INPUT, EXIT_FAULT
from schemas.loading import ConfigError
from schemas.shadow import ShadowedPackageError, check_not_shadowed

TRACEBACK = "LENGTHWISE_TRACEBACK"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command.

    Returns:
        0 done (for ``run``: pushed or unchanged), 2 bad input or configuration, 3 refused by
        validation, 1 anything else.
    """
    arguments, passed_on = _parser().parse_known_args(argv)
    if passed_on and not arguments.passes_on:
        _parser().error(f"unrecognized arguments: {' '.join(passed_on)}")
    try:
        check_not_shadowed()
        return _dispatch(arguments, passed_on)
    except ConfigError as error:
        print(f"lengthwise: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except ShadowedPackageError as error:
        print(f"lengthwise: {error}", file=sys.stderr)
        return EXIT_FAULT
    except OSError as error:
        print(f"lengthwise: {error}", file=sys.stderr)
        return EXIT_FAULT
    except Exception as error:
        if os.environ.get(TRACEBACK):
            raise
        first_line = str(error).partition("\n")[0]
        print(
            f"lengthwise: {type(error).__name__}: {first_line}  "
            f"({TRACEBACK}=1 shows where it comes from)",
            file=sys.stderr,
        )
        return EXIT_FAULT
    except KeyboardInterrupt:
        print("lengthwise: interrupted; the next run picks up", file=sys.stderr)
        return EXIT_FAULT


def _dispatch(arguments: argparse.Namespace, passed_on: list[str]) -> int:
    if arguments.command == "run":
        from pipeline.commands import run

        return run.main(arguments)
    if arguments.command == "examples":
        from pipeline.commands import examples

        return examples.main(arguments, passed_on)
    if arguments.command == "data":
        from pipeline.commands import data

        return data.main(arguments)
    from pipeline.commands import config

    return config.main(arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lengthwise",
        description="Trains, validates and ships rankers that read a user's behaviour history.",
    )
    parser.set_defaults(passes_on=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    run = commands.add_parser(
        "run",
        help="run the pipeline, from raw log to pushed model",
        description="Runs the pipeline, from raw log to pushed model. Exit code 0: pushed or "
        "unchanged; 2: bad input or configuration; 3: refused by validation; 1: anything else.",
    )
    _add_config(run)
    run.add_argument("--summary", metavar="FILE", help="write what the run did as JSON")

    examples = commands.add_parser(
        "examples",
        help="build the examples of a run, on any Beam runner",
        description="Builds the examples of a run without the rest of the pipeline. Flags that "
        "are not listed here go to Beam, such as --runner=DataflowRunner.",
    )
    _add_config(examples)
    examples.add_argument("--output", required=True, metavar="DIR", help="folder of the examples")
    examples.add_argument(
        "--snapshot-output", metavar="DIR", help="folder of the new history snapshot"
    )
    examples.set_defaults(passes_on=True)

    data = commands.add_parser("data", help="simulate a log, describe one, propose a schema")
    actions = data.add_subparsers(dest="action", required=True, metavar="ACTION")
    simulate = actions.add_parser("simulate", help="write a simulated exposure log")
    simulate.add_argument(
        "path", metavar="DIR", help="folder to write: new, empty, or an earlier simulation"
    )
    simulate.add_argument("--impressions", type=int, default=200_000, help="rows (200000)")
    simulate.add_argument("--seed", type=int, default=1, help="seed of the generator (1)")
    describe = actions.add_parser("describe", help="show what a run reads and how it is laid out")
    _add_config(describe)
    propose = actions.add_parser(
        "propose-schema",
        help="propose a TensorFlow Metadata schema from the examples of a run",
    )
    _add_config(propose)
    propose.add_argument(
        "--examples", metavar="DIR", help="examples already built; built anew if not given"
    )
    propose.add_argument("--output", metavar="FILE", help="file to write; printed if not given")

    config = commands.add_parser("config", help="look at a configuration")
    show = config.add_subparsers(dest="action", required=True, metavar="ACTION")
    _add_config(show.add_parser("show", help="print the resolved configuration"))
    return parser


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", metavar="CONFIG", help="YAML file of the run")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="overrides",
        metavar="SECTION.KEY=VALUE",
        help="change one key of the file; may be given again",
    )


if __name__ == "__main__":
    sys.exit(main())
