"""``lengthwise serve``: a server with TensorFlow Serving's API over a folder of versions."""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
import threading
from pathlib import Path
from typing import NoReturn

from pipeline.environment import without_chatter
from pipeline.exits import EXIT_BAD_INPUT, EXIT_FAULT, EXIT_OK
from schemas.imports import without_collection
from schemas.loading import ConfigError, apply_overrides, build, read_yaml, set_keys
from schemas.writing import write_text
from serving.server.config import ModelSource, ServerConfig

_SAVED_MODEL = "saved_model.pb"


def main(arguments: argparse.Namespace) -> int:
    """Serves until it is told to stop by SIGTERM or SIGINT."""
    config = _config(arguments)
    sources = _sources(arguments, config)
    if arguments.ready_file:
        # One of an earlier run would say that this one is ready.
        Path(arguments.ready_file).unlink(missing_ok=True)
    # Before gRPC is imported.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    with without_chatter(), without_collection():
        from serving.server.errors import ServingError
        from serving.server.log import set_up_log
        from serving.server.server import Server
        from serving.server.versions.config_watcher import ConfigWatcher

    set_up_log(config.log)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    server = Server(sources, config)
    ports = server.start()
    scheme = "https" if config.security.certificate else "http"
    names = ", ".join(source.name for source in sources)
    print(
        f"serving {names}: gRPC {config.listen.host}:{ports.grpc}, "
        f"REST {scheme}://{config.listen.host}:{ports.rest}",
        flush=True,
    )
    code = EXIT_OK
    watcher = None
    if arguments.models_config and config.versions.models_config_poll_seconds:
        # From the start: a file that names a folder that is not there is mended while models load.
        watcher = ConfigWatcher(
            Path(arguments.models_config),
            server.manager,
            config.versions.models_config_poll_seconds,
            served=sources,
        )
        watcher.start()
    try:
        while not stop.is_set() and not server.manager.wait_until_ready(0.2):
            pass
        if not stop.is_set():
            server.manager.check_labels()
            if arguments.ready_file:
                _write_ready(Path(arguments.ready_file), ports.grpc, ports.rest)
        stop.wait()
    except ServingError as error:
        print(f"lengthwise: {error.message}", file=sys.stderr)
        code = EXIT_BAD_INPUT
    if watcher is not None:
        watcher.close()
    if not server.stop() and code == EXIT_OK:
        code = EXIT_FAULT
    if not server.at_rest:
        _leave(code)
    return code


def _leave(code: int) -> NoReturn:
    """Ends the process beside TensorFlow's work: it cannot be interrupted, and Python waits."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _config(arguments: argparse.Namespace) -> ServerConfig:
    values = read_yaml(Path(arguments.config)) if arguments.config else {}
    short = {
        "listen.host": arguments.host,
        "listen.grpc_port": arguments.port,
        "listen.rest_port": arguments.rest_port,
    }
    values = set_keys(values, {key: value for key, value in short.items() if value is not None})
    return build(
        ServerConfig,
        apply_overrides(values, arguments.overrides),
        where=arguments.config or "serve",
    )


def _sources(arguments: argparse.Namespace, config: ServerConfig) -> tuple[ModelSource, ...]:
    if (arguments.model is None) == (arguments.models_config is None):
        raise ConfigError("MODEL_DIR, --models-config: one of them is expected")
    if arguments.models_config is not None:
        from serving.server.versions.models_config import read_models_config

        return read_models_config(Path(arguments.models_config))
    folder = Path(arguments.model).resolve()
    if not folder.is_dir():
        raise ConfigError(f"MODEL_DIR: a folder of numbered versions is expected, found {folder}")
    if (folder / _SAVED_MODEL).is_file():
        raise ConfigError(
            f"MODEL_DIR: {folder} is a SavedModel itself; a folder that holds it under a number, "
            f"such as {folder.name}/1, is expected"
        )
    try:
        source = ModelSource(
            name=arguments.name or folder.name, path=str(folder), policy=config.policy
        )
    except ValueError as error:
        raise ConfigError(f"--name: {error}") from error
    return (source,)


def _write_ready(path: Path, grpc_port: int, rest_port: int) -> None:
    """Says to whoever started the server that all models serve, and where."""
    values = {"grpc_port": grpc_port, "rest_port": rest_port, "pid": os.getpid()}
    write_text(path, json.dumps(values) + "\n")
