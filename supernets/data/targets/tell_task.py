"""Which task a data set and a checkpoint are for, where the experiment does not say it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from datasets import ClassLabel, Dataset

from supernets.data.targets.labels import MOST_FRACTIONS, most_classes
from supernets.data.targets.lists import holds_words, is_list
from supernets.data.targets.multi_label import read_labels
from supernets.data.targets.numbers import number, read_numbers
from supernets.data.targets.targets import Targets, read_classes, read_nothing
from supernets.data.targets.word_tags import read_tags


def read_known(splits: Mapping[str, Dataset], columns: Sequence[str]) -> Targets:
    """What is known of texts that are to be embedded: classes, or nothing."""
    if not columns:
        return read_nothing(splits, columns)
    return read_classes(splits, columns)


def read_scores(splits: Mapping[str, Dataset], columns: Sequence[str]) -> Targets:
    """How alike the texts of a pair are, where they are to be embedded."""
    return replace(read_numbers(splits, columns), names=())


READERS: dict[str, Callable[[Mapping[str, Dataset], Sequence[str]], Targets]] = {
    "classification": read_classes,
    "pairs": read_classes,
    "multi-label": read_labels,
    "regression": read_numbers,
    "tokens": read_tags,
    "embedding": read_known,
}
"""Task -> how its targets are read."""


def tell_task(train: Dataset, labels: Sequence[str], hint: str | None, pair: bool) -> str:
    """The task of label columns. hint: what the checkpoint is for; pair: whether rows are pairs."""
    if len(labels) > 1:
        return "multi-label"
    feature = train.features[labels[0]]
    if is_list(feature):
        words = any(holds_words(f) for name, f in train.features.items() if name != labels[0])
        return "tokens" if words else "multi-label"
    if not isinstance(feature, ClassLabel) and _is_scale(train[labels[0]][:], hint):
        return "regression"
    return "pairs" if pair else "classification"


def _is_scale(values: Sequence[Any], hint: str | None) -> bool:
    """Whether numbers are amounts: many with fractions, too many to be classes, or as the
    checkpoint says."""
    try:
        numbers = {number(value, "") for value in values}
    except ValueError:
        return False
    found = {value for value in numbers if math.isfinite(value)}
    fractions = sum(not value.is_integer() for value in found)
    many = fractions if len(found) <= most_classes(len(values)) else len(found)
    return hint == "regression" or many > MOST_FRACTIONS
