"""What is asked about every row: read off the label columns, the same way in every split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import NDArray
from torch import Tensor

from supernets.data.fingerprint import Hashes, hash_contents
from supernets.data.targets.labels import NO_LABEL, Rows, number_labels

Values = NDArray[Any]
"""A target per row: class numbers `(n,)`, marks of labels `(n, labels)`, floats `(n,)`, or
lists of tag numbers `(n,)` as objects."""


@dataclass(frozen=True)
class Targets:
    """Names of the labels, and of each split the targets and which rows have one `(n,)`."""

    names: tuple[str, ...]
    values: Mapping[str, Values]
    given: Mapping[str, NDArray[np.bool_]]
    notes: tuple[str, ...] = ()


def read_classes(splits: Mapping[str, Dataset], columns: Sequence[str]) -> Targets:
    """One class a row. Raises ValueError for a column that holds no classes."""
    found = number_labels(splits, columns[0])
    given = {name: numbers != NO_LABEL for name, numbers in found.numbers.items()}
    return Targets(found.names, found.numbers, given, found.notes)


def read_nothing(splits: Mapping[str, Dataset], columns: Sequence[str]) -> Targets:
    """Rows about which nothing is asked that could be written down."""
    empty = {name: np.zeros(len(data)) for name, data in splits.items()}
    return Targets((), empty, {name: np.ones(len(data), bool) for name, data in splits.items()})


def strata(values: Values) -> Rows:
    """Groups `(n,)` that every part of a split has in proportion: the classes, if there are any."""
    if values.dtype == np.int64 and values.ndim == 1:
        return values
    return np.zeros(len(values), np.int64)


def counts(values: Values, names: Sequence[str]) -> dict[str, int]:
    """Label -> rows that have it; of tags, the words."""
    if values.dtype == object:
        values = np.concatenate([np.zeros(0, np.int64), *values])
    if values.ndim == 2:
        found = values.sum(axis=0).astype(int)
    elif values.dtype == np.int64:
        found = np.bincount(values[values >= 0], minlength=len(names))
    else:
        return {}
    return dict(zip(names, found.tolist(), strict=True))


def hashes(splits: Mapping[str, Values], names: Sequence[str]) -> dict[str, Hashes]:
    """A hash of each row's target `(n,)`, by the labels' names where it is one class."""
    named = hash_contents(name.encode("utf-8", "surrogatepass") for name in names)
    return {
        split: named[values]
        if values.dtype == np.int64 and values.ndim == 1
        else hash_contents(repr((row.tolist(), *names)).encode() for row in values)
        for split, values in splits.items()
    }


def tensors(values: Values) -> Tensor:
    """Targets as the loss takes them."""
    return torch.from_numpy(values if values.dtype == np.int64 else values.astype(np.float32))
