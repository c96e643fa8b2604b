"""docs/datasets.md names every key of a description and every constant of the simulator."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
import yaml

from beam_jobs.simulation.click_rule import RULE
from beam_jobs.simulation.process import EXPOSURE
from schemas import dataset, dataset_sections
from schemas.dataset import SHIPPED
from schemas.loading import build

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "datasets.md"
SECTIONS = {
    "Top level": dataset.DatasetDescription,
    "log": dataset_sections.Log,
    "user and item": dataset_sections.Column,
    "time": dataset_sections.TimeColumn,
    "label": dataset_sections.Label,
    "actions": dataset_sections.Action,
    "fields": dataset_sections.Field,
    "side": dataset_sections.SideTable,
    "prior_history": (dataset_sections.PriorHistory, dataset_sections.PriorSequence),
    "drop": dataset_sections.Drop,
    "negatives": dataset_sections.Negatives,
    "split": dataset_sections.Split,
}


def sections() -> dict[str, str]:
    parts = re.split(r"^#{2,3} (.+)$", GUIDE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.parametrize("section", SECTIONS)
def test_section_lists_exactly_the_keys_there_are(section: str) -> None:
    kinds = SECTIONS[section]
    expected: set[tuple[str, bool]] = set()
    for kind in kinds if isinstance(kinds, tuple) else (kinds,):
        for field in dataclasses.fields(kind):
            required = (
                field.default is dataclasses.MISSING
                and field.default_factory is dataclasses.MISSING
            )
            expected.add((field.name, required))
    rows = re.findall(r"^\| `(\w+)`( \*)? \|", sections()[section], flags=re.MULTILINE)
    assert {(name, bool(star)) for name, star in rows} == expected


def test_first_description_is_valid() -> None:
    block = re.search(r"```yaml\n(.*?)```", sections()["A first description"], flags=re.DOTALL)
    assert block is not None
    description = build(dataset.DatasetDescription, yaml.safe_load(block[1]), where="the guide")
    assert description.action_columns == ("clicked",)


def test_shipped_datasets_have_a_column() -> None:
    header = sections()["The shipped datasets"].strip().splitlines()[0]
    assert set(re.findall(r"`(\w+)`", header)) == {file.stem for file in SHIPPED.glob("*.yaml")}


@pytest.mark.parametrize(
    ("section", "constants"), [("Who is shown what", EXPOSURE), ("The click rule", RULE)]
)
def test_constants_are_those_of_the_code(section: str, constants: object) -> None:
    documented: dict[str, list[float]] = {}
    for names, values in re.findall(
        r"^\| (`\w+`[^|]*) \| ([-0-9., ]+) \|", sections()[section], flags=re.MULTILINE
    ):
        found = re.findall(r"`(\w+)`", names)
        numbers = [float(value) for value in values.split(",")]
        if len(found) == 1:
            documented[found[0]] = numbers
        else:
            documented.update({name: [number] for name, number in zip(found, numbers, strict=True)})
    expected = {
        field.name: list(value if isinstance(value, tuple) else (value,))
        for field in dataclasses.fields(constants)  # type: ignore[arg-type]
        for value in [getattr(constants, field.name)]
    }
    assert documented == expected
