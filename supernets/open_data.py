"""The data of an experiment in the form its model takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from supernets.data.account import DataSource, SplitSource
from supernets.data.builtin import pydoc_text
from supernets.data.data import Split, TaskData
from supernets.data.fingerprint import hash_texts
from supernets.data.hf_datasets import BEYOND, Table, Tables, at_most, open_tables
from supernets.data.kept_back import keep_back
from supernets.data.targets.targets import Values, tensors
from supernets.data.text import (
    Encoded,
    TextPreprocessor,
    TextSplit,
    Writing,
    longest,
    preparing,
    refuse_unknown_ids,
)
from supernets.data.vocabulary.pieces import Ids
from supernets.data.vocabulary.tokenizer import lowercase_first, read_tokenizer, train_tokenizer
from supernets.families.sizes import ImageSizes, TextSizes
from supernets.model_settings import ModelSettings
from supernets.open_images import SPLITS, load_images
from supernets.pretrained.checkpoint import open_checkpoint
from supernets.pretrained.embedder import embedder_folder, lowercases, pooling_of, tokens_of
from supernets.pretrained.weights import model_config
from supernets.settings import DataSettings
from supernets.tasks.registry import make_task
from supernets.tasks.task import Task

PROBLEMS = {"regression": "regression", "multi_label_classification": "multi-label"}


def load_data(
    settings: DataSettings,
    model: ModelSettings,
    task: str | None = None,
    known: TaskData | None = None,
) -> TaskData:
    """Open the data set for a task, or the one that it and the checkpoint tell.

    known: the same but for how many samples of validation and test are used; images of train are
    not decoded again. Raises ValueError if the data, or the data with this model or task, cannot be
    used.
    """
    config = model_config(model)
    builtin = {"digits": "images", "pydoc": "texts"}.get(settings.name)
    wanted = f"{config.kinds[0]}s"
    if builtin is not None and builtin != wanted:
        raise ValueError(
            f"data.name: {settings.name!r} are {builtin}, a {config.family} model reads {wanted}"
        )
    if builtin is not None and task not in (None, "classification"):
        raise ValueError(f"task: {task}, but data.name {settings.name!r} holds classes")
    if isinstance(config, TextSizes):
        data = _texts(settings, model, config, task)
        if data.task.taught_alone and data.task.pair:
            return data  # whose pairs are two rows each, which stay together
        return keep_back(data, settings.kept_back)
    assert isinstance(config, ImageSizes)
    found = load_images(settings, model, config, task, _hint(model), known)
    return keep_back(found, settings.kept_back)


def _hint(model: ModelSettings) -> str | None:
    """The task that a checkpoint says it is for, if it does."""
    if model.checkpoint is None:
        return None
    checkpoint = open_checkpoint(model.checkpoint)
    if embedder_folder(checkpoint) is not None:
        return "embedding"
    named = checkpoint.config.get("architectures") or ["?"]
    if str(named[0]).endswith("ForTokenClassification"):
        return "tokens"
    return PROBLEMS.get(str(checkpoint.config.get("problem_type")))


def noisy(data: TaskData, part: float) -> Split:
    """The training split with this part of its tokens replaced at random.

    Raises ValueError for a part of images.
    """
    if not part:
        return data.train
    if not (isinstance(data.train, TextSplit) and isinstance(data.preprocessor, TextPreprocessor)):
        raise ValueError(
            f"polish.token_noise: {part}, but only texts have tokens; leave it out for images, "
            "which data.augment changes"
        )
    return data.train.noisy(part, data.preprocessor.tokenizer)


def _texts(
    settings: DataSettings, model: ModelSettings, config: TextSizes, task: str | None
) -> TaskData:
    longest(settings, config.max_positions)  # refused before anything is read
    texts = _read_texts(settings, task, _hint(model))
    pair = len(texts.splits["train"].columns) == 2
    options = _embedder(model, texts) if texts.task == "embedding" else {}
    targets = texts.splits["train"].labels
    asked = make_task(texts.task, texts.label_names, pair, targets, **options)
    of_words, apart = asked.reads == "tokens", pair and asked.taught_alone
    if model.checkpoint is None:
        cells = [cell for column in texts.splits["train"].columns for cell in column]
        flat = [cell if isinstance(cell, str) else " ".join(cell) for cell in cells]
        tokenizer = train_tokenizer(flat, config.vocab_size, config.inputs, config.padding)
    else:
        checkpoint = open_checkpoint(model.checkpoint)
        tokenizer = read_tokenizer(checkpoint.folder, of_words)
        if texts.task == "embedding" and lowercases(checkpoint):
            lowercase_first(tokenizer)
    own = _own_longest(model, tokenizer, texts.task)
    preprocessor = preparing(tokenizer, settings, config.max_positions, own)
    refuse_unknown_ids(preprocessor, config.vocab_size)
    splits, sources = {}, {}
    ways = {name: partial(_encoded, rows, asked, apart) for name, rows in texts.splits.items()}
    written = {name: encode(preprocessor) for name, encode in ways.items()}
    uses = _uses(written["train"][0], config.vocab_size)
    preprocessor = replace(preprocessor, uses=uses, fixed=_fixed_ids(config))
    for name, rows in texts.splits.items():
        encoded, labels = written[name]
        _refuse_token_types(encoded, config)
        writing = Writing(preprocessor, ways[name])
        splits[name] = TextSplit(
            encoded, labels, tokenizer.pad_token_id, config.inputs, task=asked, writing=writing
        )
        cut = preprocessor.count_cut(encoded, *rows.columns)
        hashes = partial(hash_texts, rows.columns)
        sources[name] = SplitSource(
            rows.labels, hashes, rows.sample, rows.found, rows.left_out, cut
        )
    return TaskData(
        **splits,
        label_names=texts.label_names,
        preprocessor=preprocessor,
        notes=(*texts.notes, *preprocessor.notes),
        source=DataSource(texts.label_names, sources, texts.unused),
    )


def _own_longest(model: ModelSettings, tokenizer: PreTrainedTokenizerBase, task: str) -> float:
    """Tokens at which a checkpoint's own files have texts cut; vectors are made as
    sentence-transformers would."""
    if task == "embedding" and model.checkpoint is not None:
        return tokens_of(open_checkpoint(model.checkpoint)) or tokenizer.model_max_length
    return tokenizer.model_max_length


def _encoded(rows: TextRows, task: Task, apart: bool, preprocessor: TextPreprocessor) -> Encoded:
    """All texts of a split, those of pairs that are looked at apart one after the other."""
    if task.reads == "tokens":
        return preprocessor.encode_words(rows.columns[0], rows.labels)
    if apart:
        both = [text for pair in zip(*rows.columns, strict=True) for text in pair]
        return preprocessor.encode(both), tensors(rows.labels).repeat_interleave(2)
    return preprocessor.encode(*rows.columns), tensors(rows.labels)


def _uses(texts: Sequence[Tensor], rows: int) -> Ids:
    """How often texts `(2, T)` have each id `(rows,)`."""
    return np.bincount(torch.cat([ids for ids, _ in texts]).numpy(), minlength=rows)


def _fixed_ids(config: TextSizes) -> int:
    """How many ids the graph itself knows: positions are not counted at the one of padding."""
    return 0 if config.padding is None else config.padding + 1


def _embedder(model: ModelSettings, texts: Texts) -> dict[str, str]:
    """How the checkpoint pools, and what is known of texts. Raises ValueError without one."""
    if model.checkpoint is None:
        raise ValueError(
            "task: embedding learns from a checkpoint's own vectors; give model.checkpoint"
        )
    labels = texts.splits["train"].labels
    known = "scores" if labels.any() else "nothing"
    known = "classes" if texts.label_names else known
    return {"pooling": pooling_of(open_checkpoint(model.checkpoint)), "known": known}


def _refuse_token_types(encoded: Sequence[Tensor], sizes: TextSizes) -> None:
    """Raise ValueError for a tokenizer that marks texts by types which the model does not have."""
    types = sizes.rows.get("token_type_ids")
    most = max((int(text[1].max()) for text in encoded), default=0)
    if types is not None and most >= types:
        raise ValueError(
            f"data: the tokenizer marks tokens by type {most}, but the model has only {types} "
            "(type_vocab_size): it was not made for pairs of texts; give one text a row "
            "(data.text_column), or another checkpoint"
        )


@dataclass(frozen=True)
class TextRows:
    """Raw texts, or lists of words, of one split in one or two columns; see `Table`."""

    columns: tuple[list[Any], ...]
    labels: Values
    found: int
    left_out: Mapping[str, int]

    def sample(self, row: int) -> Any:
        """A text, a list of words, or a pair of texts."""
        cells = tuple(column[row] for column in self.columns)
        return cells if len(cells) > 1 else cells[0]


@dataclass(frozen=True)
class Texts:
    """The raw texts of all splits."""

    label_names: tuple[str, ...]
    splits: Mapping[str, TextRows]
    notes: tuple[str, ...] = ()
    unused: Mapping[str, int] = field(default_factory=dict)
    task: str = "classification"


def _read_texts(settings: DataSettings, task: str | None, hint: str | None) -> Texts:
    if settings.name == "pydoc":
        names, collected = pydoc_text.collect(pydoc_text.standard_library())
        return Texts(names, {n: _of_sentences(rows, n, settings) for n, rows in collected.items()})
    tables: Tables = open_tables(settings, "text", task, hint)
    splits = {}
    for name in SPLITS:
        table: Table = getattr(tables, name)
        columns = tuple([_cell(cell) for cell in table.column(c)] for c in tables.inputs)
        splits[name] = TextRows(columns, table.labels, table.found, table.left_out)
    return Texts(tables.label_names, splits, tables.notes, tables.unused, tables.task)


def _cell(cell: Any) -> str | list[str]:
    return list(map(str, cell)) if isinstance(cell, list) else str(cell)


def _of_sentences(
    rows: Sequence[pydoc_text.Sentence], split: str, settings: DataSettings
) -> TextRows:
    labels = np.array([row.label for row in rows])
    kept = at_most(labels, settings.most(split))
    left_out = {BEYOND.format(split): len(rows) - len(kept)}
    return TextRows(([rows[row].text for row in kept],), labels[kept], len(rows), left_out)
