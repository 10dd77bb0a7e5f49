"""Data that a function of the user's own gives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from datasets import Dataset

from supernets.user_code import user_function


def load_own(place: str, name: str) -> dict[str, Dataset]:
    """The splits that `package.module:function` returns for a data set's name.

    Raises ValueError for what is no mapping of splits to records.
    """
    given = user_function(place, "data.loader")(name)
    if not isinstance(given, Mapping) or not given:
        raise ValueError(
            f"data.loader: {place} returned {type(given).__name__}; it must return splits by name, "
            'for example {"train": [{"text": "good", "label": "yes"}, ...]}'
        )
    return {str(split): _table(rows, place, str(split)) for split, rows in given.items()}


def _table(rows: Any, place: str, split: str) -> Dataset:
    if isinstance(rows, Dataset):
        return rows
    try:
        return Dataset.from_list(list(rows))
    except Exception as error:  # Arrow raises many kinds for rows that make no table
        raise ValueError(
            f"data.loader: rows of {split!r} that {place} returned make no table "
            f"({type(error).__name__}: {str(error).splitlines()[0][:200]}); give records with the "
            "same keys and types"
        ) from error
