"""Turns nested mappings from YAML and the command line into frozen dataclasses.

pydantic does the typing; this module only makes its errors name the key at fault, what was
found and what would be accepted, which is what someone needs who is reading a failed run.
"""

from __future__ import annotations

import dataclasses
import difflib
import enum
import functools
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pydantic
import yaml

T = TypeVar("T")

STRICT = pydantic.ConfigDict(extra="forbid")


class _Loader(yaml.SafeLoader):
    """Reads 2022-05-05 as the text it is, which the dataclasses expect.

    Refuses a key that stands twice: YAML asks for that, PyYAML would take the last one silently.
    """

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Reads a mapping, whose keys must all differ."""
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        lines: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            line = key.start_mark.line + 1
            first = lines.get((key.tag, key.value))
            if first is not None:
                raise yaml.YAMLError(f"key {key.value!r} stands in line {first} and in line {line}")
            lines[key.tag, key.value] = line
        return node


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


class ConfigError(ValueError):
    """A configuration or dataset description that cannot be used as it stands."""


def read_yaml(path: Path) -> dict[str, Any]:
    """Reads a YAML mapping.

    Raises:
        ConfigError: the file is missing, is not YAML or is not a mapping.
    """
    try:
        loaded = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror or error})") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text ({error.reason})") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from error
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        raise ConfigError(
            f"{path}: a mapping of sections is expected at the top, found {type(loaded).__name__}"
        )
    return loaded


def build(kind: type[T], values: Mapping[str, Any], *, where: str) -> T:
    """Builds a dataclass of type ``kind`` from plain mappings.

    Args:
        kind: a (nested) dataclass.
        values: plain values, as from YAML.
        where: what to call the source in an error.

    Raises:
        ConfigError: names every key at fault, the value found and what is accepted.
    """
    try:
        adapter: pydantic.TypeAdapter[T] = _adapter(kind)  # type: ignore[arg-type]
        return adapter.validate_python(values)
    except pydantic.ValidationError as error:
        problems = [_describe(kind, problem) for problem in error.errors()]
        raise ConfigError("\n".join(f"{where}: {problem}" for problem in problems)) from None


@functools.cache
def _adapter(kind: type[T]) -> pydantic.TypeAdapter[T]:
    return pydantic.TypeAdapter(kind)


def to_plain(value: Any) -> Any:
    """Returns dataclasses, enums, paths and tuples as what YAML and JSON can hold."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: to_plain(getattr(value, field.name)) for field in dataclasses.fields(value)
        }
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, Sequence | frozenset) and not isinstance(value, str | bytes):
        return [to_plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    return value


def apply_overrides(values: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Applies ``section.key=value`` settings to a nested mapping; values are read as YAML.

    Raises:
        ConfigError: a setting is not of that form.
    """
    result = dict(values)
    for override in overrides:
        path, separator, text = override.partition("=")
        if not separator or not all(path.strip().split(".")):
            raise ConfigError(f"--set {override!r}: expected section.key=value")
        try:
            value = yaml.load(text, Loader=_Loader)
        except yaml.YAMLError as error:
            raise ConfigError(f"--set {override!r}: the value is not valid YAML") from error
        try:
            result = set_keys(result, {path.strip(): value})
        except ConfigError as error:
            raise ConfigError(f"--set {override!r}: {error}") from error
    return result


def set_keys(values: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Sets dotted keys in a nested mapping, which is not changed; null becomes a section.

    Raises:
        ConfigError: a part of a key before its end is a value.
    """
    result = dict(values)
    for path, value in settings.items():
        *sections, name = path.split(".")
        node = result
        for section in sections:
            child = node.get(section)
            if child is not None and not isinstance(child, Mapping):
                raise ConfigError(f"{section} is a value, not a section")
            node[section] = dict(child or {})
            node = node[section]
        node[name] = value
    return result


def _describe(kind: Any, problem: Any) -> str:
    location = [part for part in problem["loc"] if not _is_union_branch(part)]
    path = ".".join(str(part) for part in location) or "(top)"
    if problem["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        known = _known_keys(kind, location[:-1])
        close = difflib.get_close_matches(str(location[-1]), known, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        return f"{path}: unknown key; {hint}known keys: {', '.join(known) or 'none'}"
    if problem["type"] in ("missing", "missing_argument", "missing_keyword_only_argument"):
        return f"{path}: this key is required"
    if problem["type"] == "value_error":
        message = str(problem["ctx"]["error"])
        return f"{path}: {message}" if location else message
    return f"{path}: {_expected(problem)}, found {problem['input']!r}"


def _expected(problem: Any) -> str:
    """Says what would be accepted in the words of YAML, not in those of Python."""
    if problem["type"] == "tuple_type":
        return "input should be a list"
    if problem["type"] in ("dataclass_type", "dict_type"):
        return "input should be a mapping of keys"
    return str(problem["msg"]).lower()


def _is_union_branch(part: Any) -> bool:
    return isinstance(part, str) and ("[" in part or part.startswith("function-"))


def _known_keys(kind: Any, location: Sequence[Any]) -> list[str]:
    for part in location:
        kind = _strip_optional(kind)
        if isinstance(part, int) or not dataclasses.is_dataclass(kind):
            arguments = typing.get_args(kind)
            if not arguments:
                return []
            kind = arguments[-1] if arguments[-1] is not Ellipsis else arguments[0]
        else:
            hints = typing.get_type_hints(kind)
            if part not in hints:
                return []
            kind = hints[part]
    kind = _strip_optional(kind)
    if not dataclasses.is_dataclass(kind):
        return []
    return [field.name for field in dataclasses.fields(kind)]


def _strip_optional(kind: Any) -> Any:
    arguments = [argument for argument in typing.get_args(kind) if argument is not type(None)]
    if type(None) in typing.get_args(kind) and len(arguments) == 1:
        return arguments[0]
    return kind
