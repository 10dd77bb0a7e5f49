"""A tag a word: lists of words in one column, lists of as many tags in another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from datasets import ClassLabel, Dataset
from numpy.typing import NDArray

from supernets.data.targets.labels import class_names
from supernets.data.targets.lists import inner, read_lists
from supernets.data.targets.targets import Targets

LISTS = "task tokens reads a list with a tag for every word in every split"


def read_tags(splits: Mapping[str, Dataset], columns: Sequence[str]) -> Targets:
    """Lists of tag numbers. Raises ValueError for a column that holds no lists of tags."""
    column = columns[0]
    named = {name: _tags(data, column, name) for name, data in splits.items()}
    feature = inner(splits["train"].features[column])
    names = class_names(feature) if isinstance(feature, ClassLabel) else _found(named["train"])
    places = {name: place for place, name in enumerate(names)}
    values = {name: _numbered(rows, places, name) for name, rows in named.items()}
    given = {name: np.array([row is not None for row in rows]) for name, rows in named.items()}
    return Targets(names, values, given)


def _tags(data: Dataset, column: str, split: str) -> list[list[str] | None]:
    found: list[list[str] | None] = []
    for number, row in enumerate(read_lists(data, column, split, LISTS), 1):
        tags = [tag for tag in row or () if tag is not None]
        if row is not None and len(tags) < len(row):
            raise ValueError(
                f"data: row {number} of the {split} split has a word without a tag in {column!r}; "
                "give every word one"
            )
        found.append(None if row is None else tags)
    return found


def _found(rows: Sequence[list[str] | None]) -> tuple[str, ...]:
    """Tags in the order of BIO: those outside of entities first."""
    found = {tag for row in rows for tag in row or ()}
    if not found:
        raise ValueError("data.label_column: train has no tag")
    return tuple(sorted(found, key=lambda tag: (tag != "O", tag.partition("-")[2], tag)))


def _numbered(
    rows: Sequence[list[str] | None], places: Mapping[str, int], split: str
) -> NDArray[np.object_]:
    values = np.empty(len(rows), dtype=object)
    for number, row in enumerate(rows):
        unknown = next((tag for tag in row or () if tag not in places), None)
        if unknown is not None:
            raise ValueError(
                f"data: tag {unknown!r} of the {split} split does not occur in train; train has "
                f"{list(places)[:20]}; rename it, or leave those rows out"
            )
        values[number] = np.array([places[tag] for tag in row or ()], np.int64)
    return values
