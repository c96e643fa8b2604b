"""What a run imports when it starts, for processes that are forked with it already imported."""

from __future__ import annotations

from pipeline.environment import prepare_environment
from schemas.imports import without_collection

# In the order of the command itself.
prepare_environment()
with without_collection():
    import pipeline.collect
    import pipeline.prepare
    import pipeline.runner  # noqa: F401
