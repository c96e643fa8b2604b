"""``lengthwise score``: rows in, scores out."""

from __future__ import annotations

import argparse
import contextlib
import csv
import itertools
import json
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from pipeline.commands.serving_client import client_config, target_of
from pipeline.environment import without_chatter
from pipeline.exits import EXIT_BAD_INPUT, EXIT_FAULT, EXIT_OK
from serving.client import Client
from serving.client_support.errors import ServingError
from serving.scoring.rows import Row, read_rows
from serving.scoring.score import ScoreRows, score_rows, with_model, with_server

EXAMPLES_SIGNATURE = "serving_default"
ROWS_SIGNATURE = "score"


def main(arguments: argparse.Namespace) -> int:
    """Scores the rows and writes them where the arguments say."""
    try:
        rows = _rows([Path(one) for one in arguments.rows])
        first = next(rows, None)
        if first is None:
            print("lengthwise: no rows to score", file=sys.stderr)
            return EXIT_BAD_INPUT
        name = arguments.signature or signature_for(first)
        with contextlib.ExitStack() as stack:
            scored = score_rows(
                itertools.chain([first], rows),
                _scorer(arguments, name, stack),
                batch_size=arguments.batch_size,
                concurrency=arguments.concurrency,
            )
            count = _write(arguments, scored)
    except ServingError as error:
        print(f"lengthwise: {error}", file=sys.stderr)
        return EXIT_FAULT
    except ValueError as error:
        print(f"lengthwise: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    print(f"{count:,} rows scored with {name}", file=sys.stderr)
    return EXIT_OK


def signature_for(row: Row) -> str:
    """Returns the signature that takes such rows."""
    return EXAMPLES_SIGNATURE if isinstance(row, bytes) else ROWS_SIGNATURE


def _rows(paths: list[Path]) -> Iterator[Row]:
    for path in paths:
        yield from read_rows(path)


def _scorer(
    arguments: argparse.Namespace, signature: str, stack: contextlib.ExitStack
) -> ScoreRows:
    if arguments.model_dir is not None:
        logging.getLogger("tensorflow").setLevel(logging.ERROR)
        with without_chatter():
            return with_model(Path(arguments.model_dir), signature)
    client = stack.enter_context(Client(client_config(arguments)))
    target = target_of(arguments)
    return with_server(client, target, signature, client.metadata(target).signature(signature))


def _write(arguments: argparse.Namespace, scored: Iterable[dict[str, Any]]) -> int:
    if arguments.output is None:
        return _write_rows(sys.stdout, _form(arguments), _shown(scored, show=False))
    path = Path(arguments.output)
    staged = path.with_name(f"{path.name}.staged.{os.getpid()}")
    try:
        with staged.open("w", encoding="utf-8", newline="") as stream:
            count = _write_rows(stream, _form(arguments), _shown(scored, show=True))
        staged.replace(path)
    finally:
        staged.unlink(missing_ok=True)
    return count


def _form(arguments: argparse.Namespace) -> str:
    if arguments.format is not None:
        return str(arguments.format)
    return "csv" if arguments.output is not None and arguments.output.endswith(".csv") else "jsonl"


def _write_rows(stream: TextIO, form: str, scored: Iterable[dict[str, Any]]) -> int:
    write = _csv_writer(stream) if form == "csv" else _json_writer(stream)
    count = 0
    for row in scored:
        write({"row": count, **row})
        count += 1
    return count


def _json_writer(stream: TextIO) -> Callable[[dict[str, Any]], Any]:
    return lambda row: stream.write(json.dumps(row) + "\n")


def _csv_writer(stream: TextIO) -> Callable[[dict[str, Any]], Any]:
    writer = csv.writer(stream, lineterminator="\n")
    header: list[str] = []

    def write(row: dict[str, Any]) -> None:
        if not header:
            header.extend(row)
            writer.writerow(header)
        writer.writerow(
            [
                json.dumps(row[name]) if isinstance(row[name], list | dict) else row[name]
                for name in header
            ]
        )

    return write


def _shown(scored: Iterable[dict[str, Any]], *, show: bool) -> Iterator[dict[str, Any]]:
    console = Console(stderr=True)
    with Progress(
        TextColumn("scored"),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not (show and console.is_terminal),
    ) as progress:
        task = progress.add_task("scored", total=None)
        for row in scored:
            progress.advance(task)
            yield row
