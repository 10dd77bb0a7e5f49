"""Data sets as tables: opened, columns and splits found, labels numbered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from datasets import ClassLabel, Dataset, DatasetDict, Image, Value, load_dataset
from numpy.typing import NDArray

from supernets.settings import DataSettings

Rows = NDArray[np.int64]

LABEL_NAMES = ("label", "labels", "intent", "class", "target", "category", "fine_label")
TEXT_NAMES = ("text", "sentence", "question", "utterance", "content", "review", "premise")
PAIR_NAMES = (
    ("sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("question", "sentence"),
    ("text_a", "text_b"),
)
SPLIT_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev", "validation_matched"),
    "test": ("test", "testing"),
}
SPLIT_SEED = 0  # how data is divided is a property of the data, not of a run
UNLABELLED = -1


@dataclass(frozen=True)
class Table:
    """Rows of one data set that make a split, and their labels `(n,)`."""

    data: Dataset
    rows: Rows
    labels: Rows

    def column(self, name: str) -> Sequence[Any]:
        """One column of these rows."""
        values: Sequence[Any] = self.data.select(self.rows.tolist())[name][:]
        return values


@dataclass(frozen=True)
class Tables:
    """The three splits, never overlapping, and what the user should know about them."""

    train: Table
    validation: Table
    test: Table
    label_names: tuple[str, ...]
    inputs: tuple[str, ...]
    notes: tuple[str, ...]


def open_tables(settings: DataSettings, kind: str) -> Tables:
    """Open a data set of texts (`kind` "text") or images ("image") and divide it.

    Raises ValueError if it cannot be opened, or columns, splits or labels do not fit.
    """
    opened = _open(settings)
    found, notes = _splits(opened, settings), list[str]()
    inputs = _input_columns(found["train"], settings, kind)
    label = _label_column(found["train"], settings)
    names, values = _label_names(found["train"], label)
    labels = {name: _labels(split, label, values, name) for name, split in found.items()}
    for name in ("validation", "test"):
        if name in labels and (labels[name] == UNLABELLED).all():
            notes.append(f"data: the {name} split has no labels and is not used")
            del labels[name], found[name]
    whole = {
        name: Table(found[name], np.arange(len(numbers)), numbers)
        for name, numbers in labels.items()
    }
    tables = _set_aside(whole, settings, notes)
    caps = {name: getattr(settings, f"max_{name}") for name in SPLIT_NAMES}
    capped = {name: _capped(table, caps[name]) for name, table in tables.items()}
    for name, table in capped.items():
        if not len(table.rows):
            raise ValueError(f"data.name {settings.name!r}: the {name} split is empty")
    return Tables(**capped, label_names=names, inputs=inputs, notes=tuple(notes))


def spread(labels: Rows, n: int) -> Rows:
    """Positions of `n` samples, every label in proportion, always the same ones."""
    shuffled = np.random.default_rng(SPLIT_SEED).permutation(len(labels))
    by_label = shuffled[np.argsort(labels[shuffled], kind="stable")]
    picks = (np.arange(n) + 0.5) * len(labels) / n
    return np.sort(by_label[picks.astype(np.int64)])


def _open(settings: DataSettings) -> Mapping[str, Dataset]:
    try:
        opened = load_dataset(settings.name, settings.config)
    except (
        Exception
    ) as error:  # datasets raises a dozen unrelated classes for a data set it cannot open
        where = (
            "folder" if Path(settings.name).exists() else "local folder or Hugging Face data set"
        )
        raise ValueError(
            f"data.name: {settings.name!r} could not be opened as a {where} "
            f"({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}); it "
            "must be parquet, csv, jsonl, one folder of images per label, or an id that exists"
        ) from error
    assert isinstance(opened, DatasetDict)
    return {str(name): split for name, split in opened.items()}


def _splits(opened: Mapping[str, Dataset], settings: DataSettings) -> dict[str, Dataset]:
    asked = {name: getattr(settings, f"{name}_split") for name in SPLIT_NAMES}
    taken = [split for split in asked.values() if split is not None]
    for name, split in asked.items():
        if split is not None and split not in opened:
            raise ValueError(
                f"data.{name}_split: {split!r} is not in {settings.name!r}; it has "
                f"{', '.join(opened)}"
            )
        if taken.count(split) > 1:
            raise ValueError(
                f"data.{name}_split: {split!r} is given for two splits; give each its own, or "
                "leave one out to have it set aside from train"
            )
    found = {}
    for name, usual in SPLIT_NAMES.items():
        free = (split for split in usual if split in opened and split not in taken)
        chosen = asked[name] or next(free, None)
        if chosen is not None:
            found[name] = opened[chosen]
    if "train" not in found:
        raise ValueError(
            f"data.name {settings.name!r} has no training split, only {', '.join(opened)}; "
            "name it with data.train_split"
        )
    return found


def _input_columns(data: Dataset, settings: DataSettings, kind: str) -> tuple[str, ...]:
    if kind == "image":
        asked = settings.image_column
        candidates = [name for name, f in data.features.items() if isinstance(f, Image)]
        return (_one(data, asked, candidates, "image_column"),)
    if settings.text_pair_column is not None:
        pair = settings.text_pair_column
        return (_text(data, settings), _one(data, pair, [], "text_pair_column"))
    if settings.text_column is None:
        for first, second in PAIR_NAMES:
            if {first, second} <= set(data.column_names):
                return first, second
    return (_text(data, settings),)


def _text(data: Dataset, settings: DataSettings) -> str:
    texts = [
        name
        for name, feature in data.features.items()
        if isinstance(feature, Value) and feature.dtype in ("string", "large_string")
    ]
    likely = [name for name in TEXT_NAMES if name in texts][:1]
    label = settings.label_column
    others = [name for name in texts if name != label and name not in LABEL_NAMES]
    return _one(data, settings.text_column, likely or others, "text_column")


def _label_column(data: Dataset, settings: DataSettings) -> str:
    classes = [name for name, f in data.features.items() if isinstance(f, ClassLabel)]
    named = [name for name in LABEL_NAMES if name in data.column_names][:1]
    return _one(data, settings.label_column, named or classes, "label_column")


def _one(data: Dataset, asked: str | None, candidates: Sequence[str], field: str) -> str:
    """The column asked for, else the only candidate."""
    columns = ", ".join(data.column_names)
    if asked is not None:
        if asked not in data.column_names:
            raise ValueError(f"data.{field}: no column {asked!r}; there are {columns}")
        return asked
    if len(candidates) != 1:
        found = ", ".join(candidates) or "none"
        raise ValueError(
            f"data.{field}: cannot tell which column is meant (fitting: {found}); name one of "
            f"{columns}"
        )
    return candidates[0]


def _label_names(train: Dataset, column: str) -> tuple[tuple[str, ...], dict[Any, int]]:
    """Names of the labels, and what each value in the table stands for."""
    feature = train.features[column]
    if isinstance(feature, ClassLabel):
        names = tuple(feature.names)
        return names, {value: value for value in range(len(names))}
    values = sorted({value for value in train[column][:] if value not in (None, UNLABELLED)})
    if len(values) > len(train) // 2 or any(isinstance(value, float) for value in values):
        raise ValueError(
            f"data.label_column: {column!r} has {len(values)} different values in {len(train)} "
            "rows, which are no classes; name another column"
        )
    return tuple(str(value) for value in values), {v: i for i, v in enumerate(values)}


def _labels(data: Dataset, column: str, values: Mapping[Any, int], split: str) -> Rows:
    """Numbered labels, -1 for none. Raises ValueError for a label that train does not have."""
    if column not in data.column_names:
        return np.full(len(data), UNLABELLED, dtype=np.int64)
    given = data[column][:]
    unknown = sorted({str(v) for v in given if v not in values and v not in (None, UNLABELLED)})
    if unknown:
        raise ValueError(
            f"data: labels {unknown[:5]} of the {split} split do not occur in train; train has "
            f"{sorted(map(str, values))[:20]}"
        )
    return np.array([values.get(value, UNLABELLED) for value in given], dtype=np.int64)


def _set_aside(
    whole: Mapping[str, Table], settings: DataSettings, notes: list[str]
) -> dict[str, Table]:
    """Take missing splits from train, the same rows every time."""
    tables, train = dict(whole), whole["train"]
    for name in ("test", "validation"):
        if name not in tables:
            taken = spread(train.labels, round(settings.holdout * len(whole["train"].rows)))
            kept = np.setdiff1d(np.arange(len(train.rows)), taken)
            tables[name] = Table(train.data, train.rows[taken], train.labels[taken])
            train = Table(train.data, train.rows[kept], train.labels[kept])
            notes.append(f"data: no {name} split; {len(taken)} rows of train are set aside for it")
    return {**tables, "train": train}


def _capped(table: Table, most: int | None) -> Table:
    labelled = np.flatnonzero(table.labels != UNLABELLED)
    rows, labels = table.rows[labelled], table.labels[labelled]
    if most is not None and most < len(rows):
        chosen = spread(labels, most)
        rows, labels = rows[chosen], labels[chosen]
    return Table(table.data, rows, labels)
