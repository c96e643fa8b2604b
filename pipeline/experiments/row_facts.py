"""What is known of each test row, beside the features that a model reads; free of TensorFlow."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

# Of the names of these arrays in a file of scored rows.
FACT = "about/"


@dataclass(frozen=True, kw_only=True)
class RowFacts:
    """What is known of each test row beside its features; all arrays are [rows].

    Attributes:
        label: 0 or 1, float32.
        user: hash of the user id.
        key: hash of user, item and time, which names the row in every example set.
        time: of the impression, in milliseconds, int64.
        history_length: events in the history.
        item_train_count: training samples of the target item.
        length_bucket: name of the history length's bucket.
        density_bucket: name of the item count's bucket.
    """

    label: Array
    user: Array
    key: Array
    time: Array
    history_length: Array
    item_train_count: Array
    length_bucket: Array
    density_bucket: Array

    @classmethod
    def read(cls, path: Path | str) -> RowFacts:
        """Reads the facts, and none of the features, of a file of test rows."""
        with np.load(path) as arrays:
            names = cls.__dataclass_fields__
            return cls(**{name: arrays[FACT + name] for name in names})

    def take(self, rows: Array) -> RowFacts:
        """Returns the facts of some rows, by index or mask."""
        return RowFacts(**{name: getattr(self, name)[rows] for name in self.__dataclass_fields__})

    def first_of_user(self) -> Array:
        """Returns the index of the earliest row of each row's user, int64 [rows]."""
        by_time = np.argsort(self.time, kind="stable")
        _, first, group = np.unique(self.user[by_time], return_index=True, return_inverse=True)
        earliest = np.empty_like(by_time)
        earliest[by_time] = by_time[first][group]
        return earliest

    def __len__(self) -> int:
        return len(self.label)


def write_arrays(path: Path, arrays: dict[str, Array]) -> None:
    """Writes an npz file under a temporary name, then renames it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.stem}.{os.getpid()}.partial.npz")
    np.savez(temporary, **arrays)  # type: ignore[arg-type]
    os.replace(temporary, path)
