"""The client that the arguments of a command ask for."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from schemas.loading import ConfigError, build
from serving.client_support.config import ClientConfig
from serving.client_support.results import ModelTarget


def client_config(arguments: argparse.Namespace) -> ClientConfig:
    """Builds the client's configuration.

    Raises:
        ConfigError: an argument cannot be used.
    """
    values: dict[str, Any] = {
        "address": arguments.host,
        "deadline_seconds": arguments.deadline,
    }
    tls = {name: getattr(arguments, name) for name in ("ca_file", "cert_file", "key_file")}
    if any(path is not None for path in tls.values()):
        values["tls"] = tls
    if arguments.token_file is not None:
        values["bearer_token"] = _token(Path(arguments.token_file))
    return build(ClientConfig, values, where="client")


def target_of(arguments: argparse.Namespace) -> ModelTarget:
    """Returns the model that the arguments name.

    Raises:
        ConfigError: the name or version cannot be used.
    """
    try:
        return ModelTarget(name=arguments.model, version=arguments.version, label=arguments.label)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _token(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror or error})") from error
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: a token of ASCII text is accepted, found other bytes") from None
