"""Where a run's curated schema lies; no framework, so that a missing one is told at once."""

from __future__ import annotations

from pathlib import Path

from beam_jobs.errors import InputError
from pipeline.config import RunConfig
from schemas.dataset import DatasetDescription

CURATED = Path(__file__).parent.parent / "schemas" / "curated"


def schema_source(config: RunConfig, description: DatasetDescription) -> Path:
    """Finds the curated schema of a run.

    Raises:
        InputError: there is none.
    """
    source = Path(config.data.schema or CURATED / f"{description.name}.pbtxt")
    if not source.is_file():
        found = (
            f"{source} is no file"
            if config.data.schema
            else f"not set, and none ships for the dataset {description.name!r}"
        )
        raise InputError(
            f"data.schema: {found}; `lengthwise data propose-schema CONFIG --output FILE` proposes "
            "one to look over"
        )
    return source
