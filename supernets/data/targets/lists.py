"""Columns that hold lists."""

from __future__ import annotations

from typing import Any

from datasets import ClassLabel, Dataset, LargeList, List, Sequence, Value

from supernets.data.targets.labels import label_name


def is_list(feature: object) -> bool:
    """Whether a column holds a list a row."""
    return isinstance(feature, List | LargeList | Sequence | list)


def inner(feature: Any) -> Any:
    """What the lists of a column hold."""
    return feature[0] if isinstance(feature, list) else feature.feature


def read_lists(
    data: Dataset, column: str, split: str, expected: str
) -> list[list[str | None] | None]:
    """The lists of a column by the names of labels; None in every row if the split lacks it.

    Raises ValueError for a column without lists. expected: what to give instead.
    """
    if column not in data.column_names:
        return [None] * len(data)
    feature = data.features[column]
    if not is_list(feature):
        raise ValueError(
            f"data.label_column: {column!r} holds no lists in the {split} split; {expected}"
        )
    content, rows = inner(feature), list(data[column][:])
    if not isinstance(content, ClassLabel):
        return [row and [label_name(label) for label in row] for row in rows]
    known = dict(enumerate(map(label_name, content.names)))
    odd = next((tag for row in rows for tag in row or () if tag not in known), None)
    if odd is not None:
        raise ValueError(
            f"data.label_column: {column!r} holds {odd}, but names only {len(known)} classes"
        )
    return [row and [known[tag] for tag in row] for row in rows]


def holds_words(feature: object) -> bool:
    """Whether the lists are of texts."""
    if not is_list(feature):
        return False
    content = inner(feature)
    return isinstance(content, Value) and content.dtype in ("string", "large_string")
