from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from schemas.loading import STRICT, ConfigError, apply_overrides, build, read_yaml, set_keys
from schemas.profile import SequenceProfile


@dataclass(frozen=True, kw_only=True)
class Inner:
    """A section."""

    __pydantic_config__ = STRICT

    size: int = 1


@dataclass(frozen=True, kw_only=True)
class Outer:
    """A configuration."""

    __pydantic_config__ = STRICT

    name: str
    inner: Inner = field(default_factory=Inner)
    parts: tuple[Inner, ...] = ()


def test_an_unknown_key_comes_with_the_nearest_known_one() -> None:
    with pytest.raises(ConfigError, match=r"f: inner\.sise: unknown key; did you mean 'size'\?"):
        build(Outer, {"name": "x", "inner": {"sise": 2}}, where="f")


def test_all_mistakes_are_named_with_where_they_stand() -> None:
    with pytest.raises(ConfigError) as error:
        build(Outer, {"parts": [{"size": "big"}]}, where="f")
    assert "f: name: this key is required" in str(error.value)
    assert "parts.0.size" in str(error.value)
    assert "found 'big'" in str(error.value)


def test_overrides_are_read_as_yaml_and_leave_the_rest() -> None:
    values = {"name": "x", "inner": {"size": 1}}
    changed = apply_overrides(values, ["inner.size=7", "name=y z"])
    assert build(Outer, changed, where="f") == Outer(name="y z", inner=Inner(size=7))
    assert values == {"name": "x", "inner": {"size": 1}}


def test_dotted_keys_are_set_without_changing_the_original() -> None:
    plain = {"model": {"lain": {"prompts": 4}, "lens": None}}
    changed = set_keys(plain, {"model.lain.prompts": 2, "model.lens.rank": 3})
    assert changed == {"model": {"lain": {"prompts": 2}, "lens": {"rank": 3}}}
    assert plain == {"model": {"lain": {"prompts": 4}, "lens": None}}
    with pytest.raises(ConfigError, match="prompts is a value, not a section"):
        set_keys(plain, {"model.lain.prompts.more": 2})


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("name", r"expected section\.key=value"),
        (".x=1", r"expected section\.key=value"),
        ("name.x=1", "name is a value, not a section"),
        ("name=[", "not valid YAML"),
    ],
)
def test_a_wrong_override_is_named(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        apply_overrides({"name": "x"}, [override])


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"- 1", "found list"), (b"a: [", "not valid YAML"), (b"\xff", "not UTF-8 text")],
)
def test_a_file_that_is_no_mapping_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "c.yaml").write_bytes(content)
    with pytest.raises(ConfigError, match=rf"c\.yaml: .*{message}"):
        read_yaml(tmp_path / "c.yaml")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_yaml(tmp_path / "nowhere.yaml")


def test_a_profile_with_unknown_keys_names_them() -> None:
    names = [f.name for f in dataclasses.fields(SequenceProfile)]
    with pytest.raises(ValueError, match=rf"missing keys \['{sorted(names)[0]}'.*\['extra'\]"):
        SequenceProfile.from_json('{"extra": 1}')


def test_a_key_that_stands_twice_is_refused_with_both_lines(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("train:\n  seed: 1\nmodel: {}\ntrain:\n  refit: true\n")
    with pytest.raises(ConfigError, match=r"key 'train' stands in line 1 and in line 4"):
        read_yaml(path)
    path.write_text(
        "a: &a {x: 1}\nb: {c: &c {<<: *a, x: 2}}\nd: {<<: *c, y: 3}\ne: [{x: 1}, {x: 1}]\n"
    )
    assert read_yaml(path)["b"] == {"c": {"x": 2}}
    assert read_yaml(path)["d"] == {"x": 2, "y": 3}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"parts": "big"}, "f: parts: input should be a list, found 'big'"),
        ({"inner": 5}, "f: inner: input should be a mapping of keys, found 5"),
    ],
)
def test_lists_and_mappings_are_asked_for_in_the_words_of_yaml(
    values: dict[str, object], expected: str
) -> None:
    with pytest.raises(ConfigError) as error:
        build(Outer, {"name": "x", **values}, where="f")
    assert str(error.value) == expected
