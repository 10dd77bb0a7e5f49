"""Any number of labels a row: lists in one column, or a column of 0 and 1 for each label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from datasets import ClassLabel, Dataset
from numpy.typing import NDArray

from supernets.data.targets.labels import class_names
from supernets.data.targets.lists import inner, read_lists
from supernets.data.targets.targets import Targets, Values

YES = {True, "1", "1.0", "true", "True", "yes"}
NO = {False, "0", "0.0", "false", "False", "no"}

LISTS = (
    "task multi-label reads lists of labels in every split, or one column of 0 and 1 for each label"
)


def read_labels(splits: Mapping[str, Dataset], columns: Sequence[str]) -> Targets:
    """Marks `(n, labels)`. Raises ValueError for columns that hold neither lists nor 0 and 1."""
    if len(columns) > 1:
        values = {name: _marks(data, columns, name) for name, data in splits.items()}
        return _targets(tuple(columns), values)
    column = columns[0]
    lists = {name: read_lists(data, column, name, LISTS) for name, data in splits.items()}
    names = _names(splits["train"], column, lists["train"])
    values = {name: _placed(rows, names, name) for name, rows in lists.items()}
    return _targets(names, values)


def _targets(names: tuple[str, ...], values: Mapping[str, Values]) -> Targets:
    given = {name: np.asarray(~np.isnan(rows).any(axis=1)) for name, rows in values.items()}
    return Targets(names, values, given)


def _marks(data: Dataset, columns: Sequence[str], split: str) -> NDArray[np.float64]:
    for column in columns:
        if column not in data.column_names:
            raise ValueError(
                f"data.label_column: the {split} split has no column {column!r}; there are "
                f"{', '.join(data.column_names)}"
            )
    return np.array([[_mark(v, c) for v in data[c][:]] for c in columns], np.float64).T


def _mark(value: Any, column: str) -> float:
    if value is None or value != value:
        return np.nan
    if value in YES or value in NO:
        return float(value in YES)
    raise ValueError(
        f"data.label_column: {column!r} holds {value!r}, but a column for one of several labels "
        "must hold 0 or 1"
    )


def _names(train: Dataset, column: str, rows: Sequence[list[Any] | None]) -> tuple[str, ...]:
    feature = inner(train.features[column])
    if isinstance(feature, ClassLabel):
        return class_names(feature)
    found = {label for row in rows for label in row or () if label}
    if not found:
        raise ValueError(f"data.label_column: {column!r} has no label in train")
    return tuple(sorted(found))


def _placed(
    rows: Sequence[list[Any] | None], names: Sequence[str], split: str
) -> NDArray[np.float64]:
    places = {name: place for place, name in enumerate(names)}
    marks = np.zeros((len(rows), len(names)))
    for marked, row in zip(marks, rows, strict=True):
        if row is None:
            marked[:] = np.nan
        for label in filter(None, row or ()):
            if label not in places:
                raise ValueError(
                    f"data: label {label!r} of the {split} split does not occur in train; train "
                    f"has {list(names[:20])}; rename it, or leave those rows out"
                )
            marked[places[label]] = 1
    return marks
