"""Data sets as tables: opened, columns and splits found, labels numbered, rows accounted for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from datasets import ClassLabel, Dataset, DatasetDict, Value, load_dataset

from supernets.data.joined import image_columns
from supernets.data.labels import Rows
from supernets.data.local import Opened, open_local, table_cache
from supernets.data.read_table import texts
from supernets.data.targets.lists import holds_words, is_list
from supernets.data.targets.own_data import load_own
from supernets.data.targets.targets import Targets, Values, strata
from supernets.data.targets.tell_task import READERS, read_scores, tell_task
from supernets.settings import DataSettings

LABEL_NAMES = ("label", "labels", "intent", "class", "target", "category", "fine_label")
OTHER_LABEL_NAMES = ("ner_tags", "tags", "pos_tags", "score", "similarity_score")
"""Names that are looked for where there is none of those."""
WORD_NAMES = ("tokens", "words")
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
BEYOND = "beyond data.max_{}"
"""Why rows are left out that a split has more of than are to be used."""

NAMED = 3
"""File names that a count of unused files is shown with."""


@dataclass(frozen=True)
class Table:
    """Rows of one data set that make a split, and what is asked about each (see `Values`).

    found: rows there were, those left out included. left_out: how many of them, by reason.
    pictures: the images that rows name by their places, where they do.
    """

    data: Dataset
    rows: Rows
    labels: Values
    found: int
    left_out: Mapping[str, int]
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
        return rest, Table(self.data, rows, labels, len(taken), {}, self.pictures)


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
    found = {name: _with_columns_of(found["train"], split) for name, split in found.items()}
    labels = _label_columns(found["train"], settings, task, hint)
    task = task or _told(found["train"], settings, labels, kind, hint)
    inputs = _input_columns(found["train"], settings, kind, task, pictures.get("train"))
    about = _about(found["train"], settings, texts_too) if kind == "image" else None
    scored = task == "embedding" and len(inputs) == 2
    targets = (read_scores if scored and labels else READERS[task])(found, labels)
    notes = list(targets.notes)
    whole = {}
    for name, given in targets.given.items():
        if name != "train" and len(given) and not given.any():
            unused[f"rows of the {name} split, which has no labels"] = len(given)
        else:
            columns = inputs if about is None else (*inputs, about)
            table = _complete(found[name], targets, columns, name, len(inputs) * (kind == "image"))
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
    pair = kind == "text" and _pair(train, settings) is not None
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


def _with_columns_of(train: Dataset, split: Dataset) -> Dataset:
    """The split with its columns named as train's where they differ in capitals or blanks."""
    theirs = {_plain(name): name for name in split.column_names}
    for name in train.column_names:
        other = theirs.get(_plain(name))
        if name not in split.column_names and other is not None:
            split = split.rename_column(other, name)
    return split


def _plain(name: str) -> str:
    return name.strip().lower()


def _input_columns(
    data: Dataset, settings: DataSettings, kind: str, task: str, pictures: Dataset | None
) -> tuple[str, ...]:
    if kind == "image":
        if isinstance(settings.image_column, tuple):
            return tuple(_one(data, name, [], "image_column") for name in settings.image_column)
        there = image_columns(data if pictures is None else pictures)
        return (_one(data, settings.image_column, there, "image_column"),)
    if task == "tokens":
        return (_words(data, settings),)
    pair = _pair(data, settings)
    if task == "pairs" and pair is None:
        raise ValueError(
            "task: pairs, but data.text_pair_column names no second text, and none is found among "
            f"{', '.join(data.column_names)}"
        )
    return pair or (_text(data, settings),)


def _about(data: Dataset, settings: DataSettings, texts_too: bool) -> str | None:
    """The column of texts about images: the one asked for, or one of a usual name."""
    if not texts_too:
        if settings.text_column is not None:
            raise ValueError(
                "data.text_column: the model reads images alone; leave it out, or give a model of "
                "images and texts"
            )
        return None
    if settings.text_column is None:
        return next(iter(_called(TEXT_NAMES, _strings(data))), None)
    return _one(data, settings.text_column, [], "text_column")


def _pair(data: Dataset, settings: DataSettings) -> tuple[str, str] | None:
    """The two columns of a pair of texts, if rows are such."""
    if settings.text_pair_column is not None:
        pair = settings.text_pair_column
        return _text(data, settings), _one(data, pair, [], "text_pair_column")
    if settings.text_column is None:
        named = {_plain(name): name for name in data.column_names}
        for first, second in PAIR_NAMES:
            if {first, second} <= set(named):
                return named[first], named[second]
    return None


def _words(data: Dataset, settings: DataSettings) -> str:
    """The column with lists of words."""
    lists = [name for name, feature in data.features.items() if holds_words(feature)]
    likely = _called(WORD_NAMES, lists)
    tags = [name for name in lists if _plain(name) in (*LABEL_NAMES, *OTHER_LABEL_NAMES)]
    others = [name for name in lists if name not in (*tags, settings.label_column)]
    column = _one(data, settings.text_column, likely or others, "text_column")
    if not is_list(data.features[column]):
        raise ValueError(
            f"task: tokens, but data.text_column {column!r} holds no lists of words; split the "
            'texts into words, for example {"tokens": ["Anna", "sleeps"], "tags": ["B-PER", "O"]}'
        )
    return column


def _text(data: Dataset, settings: DataSettings) -> str:
    strings = _strings(data)
    likely = _called(TEXT_NAMES, strings)
    label = settings.label_column
    others = [name for name in strings if name != label and _plain(name) not in LABEL_NAMES]
    return _one(data, settings.text_column, likely or others, "text_column")


def _strings(data: Dataset) -> list[str]:
    return [
        name
        for name, feature in data.features.items()
        if isinstance(feature, Value) and feature.dtype in ("string", "large_string")
    ]


def _label_columns(
    data: Dataset, settings: DataSettings, task: str | None, hint: str | None
) -> tuple[str, ...]:
    """The columns with what is asked; none for an embedder, which needs no labels."""
    if isinstance(settings.label_column, tuple):
        columns = settings.label_column
        if task not in (None, "multi-label"):
            raise ValueError(
                f"data.label_column: {len(columns)} columns, which are labels of task multi-label; "
                f"task {task} has one"
            )
        return tuple(_one(data, column, [], "label_column") for column in columns)
    classes = [name for name, f in data.features.items() if isinstance(f, ClassLabel)]
    named = _called(LABEL_NAMES, data.column_names)
    found = named or classes or _called(OTHER_LABEL_NAMES, data.column_names)
    if "embedding" in (task, hint) and not found and not settings.label_column:
        return ()
    return (_one(data, settings.label_column, found, "label_column"),)


def _called(usual: Sequence[str], columns: Sequence[str]) -> list[str]:
    """The first usual name that a column has, in any capitals."""
    named = {_plain(name): name for name in columns}
    return [named[_plain(name)] for name in usual if _plain(name) in named][:1]


def _one(data: Dataset, asked: str | None, candidates: Sequence[str], field: str) -> str:
    """The column asked for, else the only candidate."""
    columns = ", ".join(data.column_names)
    if asked is not None:
        if asked in data.column_names:
            return asked
        if not (like := _called([asked], data.column_names)):
            raise ValueError(f"data.{field}: no column {asked!r}; there are {columns}")
        return like[0]
    if len(candidates) != 1:
        found = ", ".join(candidates) or "none"
        raise ValueError(
            f"data.{field}: cannot tell which column is meant (fitting: {found}); name one of "
            f"{columns}"
        )
    return candidates[0]


def _complete(
    data: Dataset, targets: Targets, inputs: Sequence[str], split: str, images: int
) -> Table:
    """The rows that have a label and a text. Raises ValueError for a column that is not there.

    images: how many of the inputs, the first ones, are images.
    """
    for name in inputs:
        if name not in data.column_names:
            raise ValueError(
                f"data: the {split} split has no column {name!r}; it has "
                f"{', '.join(data.column_names)}"
            )
    table = Table(data, np.arange(len(data)), targets.values[split], len(data), {})
    table = table.kept(np.flatnonzero(targets.given[split]), "without a label")
    inputs = inputs[images:]
    if not inputs:
        return table
    if is_list(data.features[inputs[0]]):
        return _with_words(table, inputs[0], split)
    columns = [texts(table.column(name), f"data.text_column: {name!r}") for name in inputs]
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
