"""Tests of what the pipeline hands to its steps."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from models.config import ModelConfig
from models.warm_start_index import FOLDER, INDEX_FILE
from pipeline.create import _id_ledger


@pytest.mark.parametrize(
    ("expiry", "index", "is_handed_on"),
    [
        (7, {"id_ledger_digest": "d"}, True),
        (7, {"weights_digest": "w"}, False),  # the earlier run kept none
        (None, {"id_ledger_digest": "d"}, False),
    ],
)
def test_the_ledger_of_the_earlier_model_is_handed_on(
    tmp_path: Path, expiry: int | None, index: dict[str, Any], is_handed_on: bool
) -> None:
    (tmp_path / FOLDER).mkdir(parents=True)
    (tmp_path / FOLDER / INDEX_FILE).write_text(json.dumps(index))
    config = SimpleNamespace(model=ModelConfig(vocabulary_expiry_days=expiry))
    handed = _id_ledger(SimpleNamespace(config=config, warm_start=str(tmp_path)))  # type: ignore[arg-type]
    ledger = {"id_ledger": str(tmp_path / FOLDER / "id_ledger.parquet"), "id_ledger_digest": "d"}
    assert handed == (ledger if is_handed_on else {})
    assert _id_ledger(SimpleNamespace(config=config, warm_start="")) == {}  # type: ignore[arg-type]
