"""Which columns of a data set hold inputs and labels: those asked for, or found by usual names."""

from __future__ import annotations

from collections.abc import Sequence

from datasets import ClassLabel, Dataset, Value

from supernets.data.joined import image_columns
from supernets.data.targets.lists import holds_words, is_list
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


def with_columns_of(train: Dataset, split: Dataset) -> Dataset:
    """The split with its columns named as train's where they differ in capitals or blanks."""
    theirs = {_plain(name): name for name in split.column_names}
    for name in train.column_names:
        other = theirs.get(_plain(name))
        if name not in split.column_names and other is not None:
            split = split.rename_column(other, name)
    return split


def _plain(name: str) -> str:
    return name.strip().lower()


def input_columns(
    data: Dataset, settings: DataSettings, kind: str, task: str, pictures: Dataset | None
) -> tuple[str, ...]:
    """The columns of images, or of texts. pictures: the images that rows name by their places."""
    if kind == "image":
        if isinstance(settings.image_column, tuple):
            return tuple(_one(data, name, [], "image_column") for name in settings.image_column)
        there = image_columns(data if pictures is None else pictures)
        return (_one(data, settings.image_column, there, "image_column"),)
    if task == "tokens":
        return (_words(data, settings),)
    pair = pair_columns(data, settings)
    if task == "pairs" and pair is None:
        raise ValueError(
            "task: pairs, but data.text_pair_column names no second text, and none is found among "
            f"{', '.join(data.column_names)}"
        )
    return pair or (_text(data, settings),)


def text_about_images(data: Dataset, settings: DataSettings, texts_too: bool) -> str | None:
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


def pair_columns(data: Dataset, settings: DataSettings) -> tuple[str, str] | None:
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


def label_columns(
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
