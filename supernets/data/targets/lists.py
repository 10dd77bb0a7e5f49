"""Columns that hold lists."""

from __future__ import annotations

from typing import Any

from datasets import LargeList, List, Sequence, Value


def is_list(feature: object) -> bool:
    """Whether a column holds a list a row."""
    return isinstance(feature, List | LargeList | Sequence | list)


def inner(feature: Any) -> Any:
    """What the lists of a column hold."""
    return feature[0] if isinstance(feature, list) else feature.feature


def holds_words(feature: object) -> bool:
    """Whether the lists are of texts."""
    if not is_list(feature):
        return False
    content = inner(feature)
    return isinstance(content, Value) and content.dtype in ("string", "large_string")
