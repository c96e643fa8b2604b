"""The command line: ``lengthwise``. Imports what a command needs only when it runs."""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
import threading
from collections.abc import Sequence
from typing import Any

from pipeline import serving_commands
from pipeline.exits import EXIT_BAD_INPUT, EXIT_FAULT
from schemas.loading import ConfigError
from schemas.shadow import ShadowedPackageError, check_not_shadowed

TRACEBACK = "LENGTHWISE_TRACEBACK"

# Commands that go on where they were stopped.
_RESUMED = ("run", "tune", "experiment")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command.

    Returns:
        0 done (for ``run``: pushed or unchanged), 2 bad input or configuration, 3 refused by
        validation, 1 anything else.
    """
    arguments, passed_on = _parser().parse_known_args(argv)
    if passed_on and not arguments.passes_on:
        _parser().error(f"unrecognized arguments: {' '.join(passed_on)}")
    if threading.current_thread() is threading.main_thread():
        # Whoever stops a service or a container sends this: end as after Ctrl-C, not at once.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        check_not_shadowed()
        code = _dispatch(arguments, passed_on)
        sys.stdout.flush()
        return code
    except ConfigError as error:
        print(f"lengthwise: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except ShadowedPackageError as error:
        print(f"lengthwise: {error}", file=sys.stderr)
        return EXIT_FAULT
    except BrokenPipeError:
        # Whoever reads the output, such as `head`, has seen enough; Python flushes it once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
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
        goes_on = "; the next run picks up" if arguments.command in _RESUMED else ""
        print(f"lengthwise: interrupted{goes_on}", file=sys.stderr)
        return EXIT_FAULT


def _dispatch(arguments: argparse.Namespace, passed_on: list[str]) -> int:
    if arguments.command == "run":
        from pipeline.commands import run

        return run.main(arguments)
    if arguments.command == "examples":
        from pipeline.commands import examples

        return examples.main(arguments, passed_on)
    if arguments.command == "experiment":
        from pipeline.commands import experiment

        return experiment.main(arguments)
    if arguments.command == "data":
        from pipeline.commands import data

        return data.main(arguments)
    if arguments.command == "serve":
        from pipeline.commands import serve

        return serve.main(arguments)
    if arguments.command in (*serving_commands.NAMES, "tune", "worker"):
        return importlib.import_module(f"pipeline.commands.{arguments.command}").main(arguments)
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
        "--snapshot-output",
        metavar="DIR",
        help="folder of the new history snapshot; an earlier one there is replaced",
    )
    examples.set_defaults(passes_on=True)

    worker = commands.add_parser(
        "worker",
        help="take part in the training of a run on several machines",
        description="Takes part in the training of a run, whose chief is `lengthwise run` with the "
        "same configuration elsewhere; run.root is a folder that both see. Waits for it, and ends "
        "with it. Exit code 0: done; 2: bad configuration; 1: this or another worker failed.",
    )
    _add_config(worker)
    worker.add_argument(
        "--index", type=int, metavar="N", help="place in train.workers, from 1; else TF_CONFIG's"
    )

    tune = commands.add_parser(
        "tune",
        help="search keys of the configuration by the validation AUC",
        description="Trains with values from the ranges of the tune section, on the examples of "
        "the run, and writes the best configuration to <run.root>/tune/best.yaml. Started again, "
        "it goes on. Exit code 0: done; 2: bad input or configuration; 3: the data was refused; "
        "1: anything else.",
    )
    _add_config(tune)

    experiment = commands.add_parser(
        "experiment",
        help="train a grid of models and seeds and compare them",
        description="Trains every cell of a grid that has no row in the results file yet, then "
        "writes the tables. Exit code 0: all cells are there; 2: bad input or configuration; 1: "
        "a cell failed, or anything else.",
    )
    _add_grid(experiment)

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

    _add_serve(commands)

    serving_commands.add_parsers(commands)

    config = commands.add_parser("config", help="look at a configuration")
    show = config.add_subparsers(dest="action", required=True, metavar="ACTION")
    _add_config(show.add_parser("show", help="print the resolved configuration"))
    return parser


def _add_grid(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("grid", metavar="GRID", help="YAML file of the grid")
    _add_overrides(parser)
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="NAME", help="models of the grid, not all"
    )
    parser.add_argument(
        "--seeds", nargs="+", type=int, default=[], metavar="SEED", help="instead of the grid's"
    )
    parser.add_argument("--results", metavar="FILE", help="results file (run.root/results.jsonl)")
    parser.add_argument(
        "--report", action="store_true", help="only write the tables of what is there"
    )
    parser.add_argument(
        "--background", action="store_true", help="go on in the background, with a log file"
    )
    parser.add_argument(
        "--diagnostics",
        action="store_true",
        help="write attention diagnostics of all trained cells as well",
    )


def _add_serve(commands: Any) -> None:
    serve = commands.add_parser(
        "serve",
        help="serve a folder of versions over gRPC and REST",
        description="Serves pushed models with the API of TensorFlow Serving, until SIGTERM.",
    )
    serve.add_argument("model", nargs="?", metavar="MODEL_DIR", help="folder of numbered versions")
    serve.add_argument("--name", help="name of the model (that of the folder)")
    serve.add_argument(
        "--models-config", metavar="FILE", help="ModelServerConfig in text form: several models"
    )
    serve.add_argument("--host", help="address to listen on (127.0.0.1)")
    serve.add_argument("--port", type=int, help="port of gRPC (8500); 0: a free one")
    serve.add_argument("--rest-port", type=int, help="port of REST (8501); 0: a free one")
    serve.add_argument("--config", metavar="FILE", help="YAML file of the server")
    serve.add_argument(
        "--ready-file", metavar="FILE", help="write the ports as JSON once all models serve"
    )
    _add_overrides(serve)


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", metavar="CONFIG", help="YAML file of the run")
    _add_overrides(parser)


def _add_overrides(parser: argparse.ArgumentParser) -> None:
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
