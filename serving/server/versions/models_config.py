"""``models.config``: TensorFlow Serving's ModelServerConfig as the models to serve."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from schemas.loading import ConfigError
from serving.server.config import ModelSource, VersionPolicy
from serving.server.errors import ServingError, invalid

_PLATFORM = "tensorflow"


def read_models_config(path: Path) -> tuple[ModelSource, ...]:
    """Reads a file.

    Raises:
        ConfigError: it cannot be read, or asks for what this server cannot do.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error})") from error
    try:
        config = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    except text_format.ParseError as error:
        raise ConfigError(f"{path}: not a ModelServerConfig in text form: {error}") from error
    try:
        return sources_from_proto(config)
    except ServingError as error:
        raise ConfigError(f"{path}: {error.message}") from error


def sources_from_proto(config: Any) -> tuple[ModelSource, ...]:
    """Returns the models that a ``ModelServerConfig`` asks for.

    Raises:
        ServingError: it asks for what this server cannot do.
    """
    if config.WhichOneof("config") != "model_config_list":
        raise invalid(
            "ServerModelConfig type not supported by HandleReloadConfigRequest. "
            "Only ModelConfigList is currently supported"
        )
    sources = tuple(_source(model) for model in config.model_config_list.config)
    names = [source.name for source in sources]
    for name in names:
        if names.count(name) > 1:
            raise invalid(f"Illegal to list model name {name} multiple times in config list")
    return sources


def _source(model: Any) -> ModelSource:
    if model.model_platform not in ("", _PLATFORM):
        raise invalid(
            f"Model {model.name} requests unsupported platform {model.model_platform}; "
            f"{_PLATFORM} is accepted"
        )
    if "://" in model.base_path:
        raise invalid(
            f"Model {model.name}: base_path {model.base_path} is not on a local file system"
        )
    if not Path(model.base_path).is_absolute():
        raise invalid(
            f"Expected model {model.name} to have an absolute path or URI; "
            f"got base_path()={model.base_path}"
        )
    try:
        return ModelSource(
            name=model.name,
            path=model.base_path,
            policy=_policy(model.model_version_policy),
            labels=dict(model.version_labels),
        )
    except ValueError as error:
        raise invalid(f"Model {model.name}: {error}") from error


def _policy(policy: Any) -> VersionPolicy:
    choice = policy.WhichOneof("policy_choice")
    if choice == "all":
        return VersionPolicy(all=True)
    if choice == "specific":
        if not policy.specific.versions:
            raise ValueError("model_version_policy.specific: versions are expected, found none")
        return VersionPolicy(specific=tuple(policy.specific.versions))
    return VersionPolicy(latest=policy.latest.num_versions or 1)
