"""A number a row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from datasets import Dataset

from supernets.data.targets.targets import Targets


def read_numbers(splits: Mapping[str, Dataset], columns: Sequence[str]) -> Targets:
    """Floats `(n,)`. Raises ValueError for a column that holds anything else."""
    column = columns[0]
    values = {
        name: np.array([number(v, column) for v in data[column][:]], np.float64)
        if column in data.column_names
        else np.full(len(data), np.nan)
        for name, data in splits.items()
    }
    given = {name: np.isfinite(rows) for name, rows in values.items()}
    if not given["train"].any():
        raise ValueError(f"data.label_column: {column!r} has no number in train")
    return Targets(("score",), values, given)


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
