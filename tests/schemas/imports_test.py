"""Tests that the garbage collector stands still for imports and goes on after them."""

from __future__ import annotations

import gc

import pytest

from schemas.imports import without_collection


def test_what_is_imported_is_not_looked_through() -> None:
    before = gc.get_freeze_count()
    with without_collection():
        assert not gc.isenabled()
        kept = [[] for _ in range(1000)]
    assert gc.isenabled()
    assert gc.get_freeze_count() >= before + len(kept)


def test_it_goes_on_after_an_import_that_fails() -> None:
    with pytest.raises(ImportError), without_collection():
        raise ImportError
    assert gc.isenabled()


def test_a_collector_that_was_off_stays_off() -> None:
    gc.disable()
    try:
        with without_collection():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
