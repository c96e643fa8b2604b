"""docs/deployment.md names every setting of a deployment with its default."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from serving.deploy.config import IMAGE, DeployConfig

GUIDE = (Path(__file__).resolve().parents[2] / "docs" / "deployment.md").read_text("utf-8")
SECTIONS = ("batching", "resources", "flags")


def settings() -> list[tuple[str, Any]]:
    config = DeployConfig()
    found = [(field.name, getattr(config, field.name)) for field in dataclasses.fields(config)]
    for section in SECTIONS:
        part = getattr(config, section)
        found += [(field.name, getattr(part, field.name)) for field in dataclasses.fields(part)]
    return [(name, value) for name, value in found if name not in (*SECTIONS, "name", "versions")]


def rows() -> list[str]:
    return [line for line in GUIDE.splitlines() if line.startswith("| `")]


@pytest.mark.parametrize(("name", "default"), settings(), ids=lambda value: str(value))
def test_a_setting_stands_in_the_table_with_its_default(name: str, default: Any) -> None:
    found = [row for row in rows() if f"{name}`" in row or f"{name}.NAME`" in row]
    assert len(found) == 1, name
    if isinstance(default, int | float) and not isinstance(default, bool):
        assert f"{default:g}" in found[0] or str(default) in found[0]


def test_the_image_is_the_default() -> None:
    assert IMAGE in GUIDE
