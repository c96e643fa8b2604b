"""Our own server as a program that takes the flags of ``tensorflow_model_server``.

    python -m serving.canary.host --port=8500 --rest_api_port=8501 --model_name=ranker \
        --model_base_path=/srv/ranker

For the canary, which starts either server with one command line. Others use ``lengthwise serve``.
"""

from __future__ import annotations

import argparse
import signal
import threading

from schemas.imports import without_collection
from serving.server.config import ListenConfig, LogFormat, ModelSource, ServerConfig
from serving.server.log import set_up_log

with without_collection():
    from serving.server.server import Server


def main() -> None:
    """Serves until it is told to stop by SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="serving.canary.host", allow_abbrev=False)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--rest_api_port", type=int, required=True)
    parser.add_argument("--model_name", required=True)
    parser.add_argument("--model_base_path", required=True)
    given = parser.parse_args()
    set_up_log(LogFormat.TEXT)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    listen = ListenConfig(grpc_port=given.port, rest_port=given.rest_api_port)
    source = ModelSource(name=given.model_name, path=given.model_base_path)
    server = Server([source], ServerConfig(listen=listen))
    server.start()
    stop.wait()
    server.stop()


if __name__ == "__main__":
    main()
