"""Data sets as tables: opened, splits found, labels numbered, rows accounted for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, DatasetDict, load_dataset

from supernets.data.columns import (
    input_columns,
    label_columns,
    pair_columns,
    text_about_images,
    with_columns_of,
)
from supernets.data.layout import table_suffix
from supernets.data.local import Opened, open_local, table_cache
from supernets.data.read_table import texts
from supernets.data.targets.labels import Rows
from supernets.data.targets.lists import is_list
from supernets.data.targets.own_data import load_own
from supernets.data.targets.targets import Targets, Values, strata
from supernets.data.targets.tell_task import READERS, read_scores, tell_task
from supernets.settings import DataSettings

SPLIT_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev", "validation_matched"),
    "test": ("test", "testing"),
}
SPLIT_SEED = 0  # how data is divided is a property of the data, not of a run
BEYOND = "beyond data.max_{}"
"""Why rows are left out that a split has more of than are to be used."""

NAMED = 3
"""File names that a count of unused files is shown with."""


@dataclass(frozen=True)
class Table:
    """Rows of one data set that make a split, and what is asked about each (see `Values`).

    found: rows there were, those left out included. left_out: how many of them, by reason.
    split: that the data is of, also where its rows make another one.
    pictures: the images that rows name by their places, where they do.
    """

    data: Dataset
    rows: Rows
    labels: Values
    found: int
    left_out: Mapping[str, int]
    split: str
    pictures: Dataset | None = None

    def column(self, name: str) -> Sequence[Any]:
        """One column of these rows."""
        values: Sequence[Any] = self.data.select(self.rows.tolist())[name][:]
        return values

    def kept(self, positions: Rows, reason: str) -> Table:
        """The rows at these positions; the others are counted as left out."""
        gone = len(self.rows) - len(positions)
        left_out = Counter(self.left_out) + Counter({reason: gone})
        rows, labels = self.rows[positions], self.labels[positions]
        return replace(self, rows=rows, labels=labels, left_out=left_out)

    def parted(self, taken: Rows) -> tuple[Table, Table]:
        """The rows that are not at these positions, and those that are, as a split of their own."""
        kept = np.setdiff1d(np.arange(len(self.rows)), taken)
        rest = replace(self.kept(kept, ""), found=self.found - len(taken), left_out=self.left_out)
        rows, labels = self.rows[taken], self.labels[taken]
        return rest, Table(self.data, rows, labels, len(taken), {}, self.split, self.pictures)


@dataclass(frozen=True)
class Tables:
    """The three splits, never overlapping, and what the user should know about them.

    inputs: columns of images, or of texts. about: the column of texts about the images, if any.
    unused: rows and files that are of no split, by reason. task: its name.
    """

    train: Table
    validation: Table
    test: Table
    label_names: tuple[str, ...]
    inputs: tuple[str, ...]
    notes: tuple[str, ...]
    unused: Mapping[str, int]
    task: str
    about: str | None = None


def open_tables(
    settings: DataSettings,
    kind: str,
    task: str | None = None,
    hint: str | None = None,
    texts_too: bool = False,
) -> Tables:
    """Open a data set of texts (`kind` "text") or images ("image") and divide it.

    texts_too: whether the model also reads texts about images, if there are any.
    task: what is asked about the rows, None where their columns tell; hint: what the checkpoint is
    for, as far as it says.

    Raises ValueError if it cannot be opened, or columns, splits or labels do not fit.
    """
    opened = _open(settings, kind)
    found = _splits(opened.splits, settings)
    pictures = {
        name: opened.pictures[theirs]
        for name, split in found.items()
        for theirs, taken in opened.splits.items()
        if split is taken and theirs in opened.pictures
    }
    unused = {_counted(why, names): len(names) for why, names in opened.unused.items()}
    for name, split in opened.splits.items():
        if not any(split is taken for taken in found.values()):
            unused[f"rows of the split {name!r}"] = len(split)
    found = {name: with_columns_of(found["train"], split) for name, split in found.items()}
    labels = label_columns(found["train"], settings, task, hint)
    task = task or _told(found["train"], settings, labels, kind, hint)
    inputs = input_columns(found["train"], settings, kind, task, pictures.get("train"))
    about = text_about_images(found["train"], settings, texts_too) if kind == "image" else None
    scored = task == "embedding" and len(inputs) == 2
    targets = (read_scores if scored and labels else READERS[task])(found, labels)
    notes = list(targets.notes)
    columns = inputs if about is None else (*inputs, about)
    texts_in = inputs if kind == "text" else columns[len(inputs) :]
    whole = {}
    for name, given in targets.given.items():
        if name != "train" and len(given) and not given.any():
            unused[f"rows of the {name} split, which has no labels"] = len(given)
        else:
            table = _complete(found[name], targets, columns, texts_in, name)
            whole[name] = replace(table, pictures=pictures.get(name))
    tables = _set_aside(whole, settings, notes, inputs[0])
    capped = {
        name: table.kept(at_most(table.labels, settings.most(name)), BEYOND.format(name))
        for name, table in tables.items()
    }
    for name, table in capped.items():
        if not len(table.rows):
            why = ", ".join(f"{count} {reason}" for reason, count in table.left_out.items())
            raise ValueError(
                f"data.name {settings.name!r}: the {name} split is empty"
                + (f" (of {table.found} rows left out: {why})" if why else "")
                + "; give it rows, or leave it out and data.holdout takes its part of enough rows "
                "of train"
            )
    return Tables(
        **capped,
        label_names=targets.names,
        inputs=inputs,
        notes=tuple(notes),
        unused=unused,
        task=task,
        about=about,
    )


def _told(
    train: Dataset, settings: DataSettings, labels: Sequence[str], kind: str, hint: str | None
) -> str:
    """The task that the columns and the checkpoint tell."""
    if not labels:
        return "embedding"
    pair = kind == "text" and pair_columns(train, settings) is not None
    return tell_task(train, labels, hint, pair)


def spread(values: Values, n: int) -> Rows:
    """Positions of `n` samples, every class in proportion, always the same ones."""
    labels = strata(values)
    shuffled = np.random.default_rng(SPLIT_SEED).permutation(len(labels))
    by_label = shuffled[np.argsort(labels[shuffled], kind="stable")]
    picks = (np.arange(n) + 0.5) * len(labels) / n
    return np.sort(by_label[picks.astype(np.int64)])


def at_most(labels: Values, most: int | None) -> Rows:
    """Positions of so many samples, see `spread`; of all where there are no more."""
    if most is None or most >= len(labels):
        return np.arange(len(labels))
    return spread(labels, most)


def _open(settings: DataSettings, kind: str) -> Opened:
    if settings.join_column is not None and kind != "image":
        raise ValueError("data.join_column: images are joined to rows; a model of texts reads none")
    if settings.loader is not None and settings.join_column is None:
        return Opened(load_own(settings.loader, settings.name))
    path = Path(settings.name).expanduser()
    local = path.exists() and settings.config is None and settings.loader is None
    if local and not _described(path):
        opened = open_local(path, settings, kind)
        if opened is not None:
            return opened
    if settings.join_column is not None:
        raise ValueError(
            f"data.join_column: only tables of a local folder are joined, {settings.name!r} is none"
        )
    if not path.exists() and (path.is_absolute() or len(path.parts) > 2 or table_suffix(path)):
        raise ValueError(
            f"data.name: there is no file or folder {settings.name!r} (looked for in "
            f"{Path.cwd()}), and it is no id of a Hugging Face data set either; check the path"
        )
    try:
        loaded = load_dataset(str(path), settings.config, cache_dir=table_cache())
    except (
        Exception
    ) as error:  # datasets raises a dozen unrelated classes for a data set it cannot open
        where = "folder" if path.exists() else "local folder or Hugging Face data set"
        raise ValueError(
            f"data.name: {settings.name!r} could not be opened as a {where} "
            f"({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}); it "
            "must be parquet, csv, tsv, json or jsonl, one folder of images per label, or an id "
            "that exists"
        ) from error
    assert isinstance(loaded, DatasetDict)
    return Opened({str(name): split for name, split in loaded.items()})


def _described(path: Path) -> bool:
    """Whether a folder's own card maps its files to splits, which the library datasets reads."""
    card = path / "README.md"
    if not card.is_file():
        return False
    front = card.read_text(encoding="utf-8", errors="replace").partition("\n---")[0]
    return front.startswith("---") and "\nconfigs:" in front


def _counted(why: str, names: Sequence[str]) -> str:
    some = ", ".join(names[:NAMED]) + (", ..." if len(names) > NAMED else "")
    return f"{why} ({some})"


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


def _complete(
    data: Dataset, targets: Targets, inputs: Sequence[str], texts_in: Sequence[str], split: str
) -> Table:
    """The rows that have a label and a text. Raises ValueError for a column that is not there.

    texts_in: those of the input columns that hold texts, none of images alone.
    """
    for name in inputs:
        if name not in data.column_names:
            raise ValueError(
                f"data: the {split} split has no column {name!r}; it has "
                f"{', '.join(data.column_names)}"
            )
    table = Table(data, np.arange(len(data)), targets.values[split], len(data), {}, split)
    table = table.kept(np.flatnonzero(targets.given[split]), "without a label")
    if not texts_in:
        return table
    if is_list(data.features[texts_in[0]]):
        return _with_words(table, texts_in[0], split)
    columns = [texts(table.column(name), f"data.text_column: {name!r}") for name in texts_in]
    there = [None not in cells for cells in zip(*columns, strict=True)]
    return table.kept(np.flatnonzero(there), "without a text")


def _with_words(table: Table, column: str, split: str) -> Table:
    """The rows that have words. Raises ValueError for one with another number of tags."""
    rows = table.column(column)
    for number, (words, tags) in enumerate(zip(rows, table.labels, strict=True)):
        if words is not None and len(words) != len(tags):
            raise ValueError(
                f"data: row {table.rows[number] + 1} of the {split} split has {len(words)} words "
                f"in {column!r}, but {len(tags)} tags; give every word one"
            )
    there = [bool(words) and None not in words for words in rows]
    return table.kept(np.flatnonzero(there), "without a text")


def _set_aside(
    whole: Mapping[str, Table], settings: DataSettings, notes: list[str], image: str
) -> dict[str, Table]:
    """Take missing splits from train, the same rows every time; whole images where rows share them.

    image: the column of their places.
    """
    tables, train = dict(whole), whole["train"]
    for name in ("test", "validation"):
        if name not in tables:
            wanted = round(settings.holdout * len(whole["train"].rows))
            taken = spread(train.labels, wanted)
            if train.pictures is not None:
                taken = _of_whole_images(np.array(train.column(image)), wanted)
            train, tables[name] = train.parted(taken)
            notes.append(f"data: no {name} split; {len(taken)} rows of train are set aside for it")
    return {**tables, "train": train}


def _of_whole_images(places: Rows, wanted: int) -> Rows:
    """Positions of about so many rows, all of each image that one of them is about."""
    images, of_image, counts = np.unique(places, return_inverse=True, return_counts=True)
    shuffled = np.random.default_rng(SPLIT_SEED).permutation(len(images))
    before = np.cumsum(counts[shuffled]) - counts[shuffled]
    return np.flatnonzero(np.isin(of_image, shuffled[before < wanted]))
