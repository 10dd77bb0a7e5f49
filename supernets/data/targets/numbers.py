"""A number a row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray

from supernets.data.targets.targets import Targets

LARGEST = float(np.finfo(np.float32).max)


def read_numbers(splits: Mapping[str, Dataset], columns: Sequence[str]) -> Targets:
    """Floats `(n,)`. Raises ValueError for a column that holds anything else, or larger ones than a
    model gives."""
    column = columns[0]
    values = {
        name: np.array([number(v, column) for v in data[column][:]], np.float64)
        if column in data.column_names
        else np.full(len(data), np.nan)
        for name, data in splits.items()
    }
    given = {name: np.isfinite(rows) for name, rows in values.items()}
    for name, rows in values.items():
        _refuse_large(rows[given[name]], column)
    if not given["train"].any():
        raise ValueError(f"data.label_column: {column!r} has no number in train")
    return Targets(("score",), values, given)


def _refuse_large(values: NDArray[np.float64], column: str) -> None:
    if np.abs(values).max(initial=0) > LARGEST:
        raise ValueError(
            f"data.label_column: {column!r} holds {np.abs(values).max():g}, which is beyond the "
            f"numbers that a model gives ({LARGEST:.1e}); give another unit, or logarithms"
        )


def number(value: Any, column: str) -> float:
    """A cell as a number, NaN for an empty one. Raises ValueError for what is none."""
    if value is None or value == "":
        return np.nan
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ValueError(
            f"task: regression, but data.label_column {column!r} holds {value!r}, which is no "
            "number; name another column, or another task"
        ) from None
