"""The data of an experiment in the form its model takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from supernets.data import digits, pydoc_text
from supernets.data.data import Split, TaskData
from supernets.data.decode import in_words, load_images
from supernets.data.hf_datasets import Table, Tables, open_tables
from supernets.data.image_preprocessor import ImagePreprocessor, read_preprocessor
from supernets.data.images import ImageSplit, RandomAffine
from supernets.data.text import TextPreprocessor, TextSplit, read_tokenizer, train_tokenizer
from supernets.families.sizes import ImageSizes, TextSizes
from supernets.model_settings import ModelSettings
from supernets.pretrained.checkpoint import open_checkpoint
from supernets.pretrained.weights import model_config
from supernets.settings import DataSettings

AUGMENTATION = RandomAffine(degrees=10, shift=0.1, scale=0.15, flip=True)


def load_data(settings: DataSettings, model: ModelSettings) -> TaskData:
    """Open the data set; raises ValueError if it, or it with this model, cannot be used."""
    config = model_config(model)
    builtin = {"digits": "images", "pydoc": "texts"}.get(settings.name)
    wanted = "texts" if isinstance(config, TextSizes) else "images"
    if builtin is not None and builtin != wanted:
        raise ValueError(
            f"data.name: {settings.name!r} are {builtin}, a {config.family} model reads {wanted}"
        )
    if isinstance(config, TextSizes):
        return _texts(settings, model, config)
    assert isinstance(config, ImageSizes)
    return _images(settings, model, config)


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


def _images(settings: DataSettings, model: ModelSettings, config: ImageSizes) -> TaskData:
    preprocessor = _image_preprocessor(settings, model, config)
    if settings.name == "digits":
        return digits.load(preprocessor, settings.augment)
    tables = open_tables(settings, "image")
    notes = [*preprocessor.notes, *tables.notes]
    splits = {}
    for name in ("train", "validation", "test"):
        table: Table = getattr(tables, name)
        images = load_images(
            table, tables.inputs[0], preprocessor, settings.skip_broken, Path(settings.name)
        )
        if images.unreadable:
            count, reasons = images.unreadable.total(), in_words(images.unreadable)
            notes.append(f"data: {count} images of the {name} split are left out: {reasons}")
        splits[name] = ImageSplit(
            images.pixels,
            torch.from_numpy(table.labels[images.kept]),
            preprocessor,
            images.pictures,
            AUGMENTATION if settings.augment and name == "train" else None,
        )
    return TaskData(
        **splits, label_names=tables.label_names, preprocessor=preprocessor, notes=tuple(notes)
    )


def _image_preprocessor(
    settings: DataSettings, model: ModelSettings, config: ImageSizes
) -> ImagePreprocessor:
    """The checkpoint's, or a plain one; raises ValueError if the network cannot take its images."""
    if model.checkpoint is None:
        half = (0.5,) * config.channels
        size = settings.image_size or config.image_size
        preprocessor = ImagePreprocessor.plain(size, half, half)
    else:
        folder = open_checkpoint(model.checkpoint).folder
        preprocessor = read_preprocessor(folder, settings.image_size, config.channels)
    _check_size(preprocessor.image_size, config.image_multiple)
    return preprocessor


def _check_size(image_size: int, multiple: int) -> None:
    """Raise ValueError if images cannot be divided as the network does it."""
    if image_size % multiple:
        below = image_size // multiple * multiple
        fitting = " or ".join(str(size) for size in (below, below + multiple) if size)
        raise ValueError(
            f"data.image_size: images are {image_size} pixels high and wide, which patches of "
            f"{multiple} do not cover; set data.image_size to {fitting}"
        )


def _texts(settings: DataSettings, model: ModelSettings, config: TextSizes) -> TaskData:
    length = settings.max_length or config.max_positions
    if length > config.max_positions:
        raise ValueError(
            f"data.max_length: {length} tokens, but the model has {config.max_positions} "
            f"positions; give at most {config.max_positions}"
        )
    texts = _read_texts(settings)
    if model.checkpoint is None:
        flat = [text for column in texts.columns["train"] for text in column]
        tokenizer = train_tokenizer(flat, config.vocab_size, config.inputs)
    else:
        tokenizer = read_tokenizer(open_checkpoint(model.checkpoint).folder)
    preprocessor = TextPreprocessor(tokenizer, length)
    if preprocessor.vocab_size > config.vocab_size:
        raise ValueError(
            f"model.checkpoint: the tokenizer has {preprocessor.vocab_size} entries, the model's "
            f"vocabulary only {config.vocab_size}; they do not belong together"
        )
    splits = {
        name: TextSplit(
            preprocessor.encode(columns[0], columns[1] if len(columns) > 1 else None),
            torch.tensor(texts.labels[name]),
            tokenizer.pad_token_id,
            config.inputs,
        )
        for name, columns in texts.columns.items()
    }
    return TaskData(
        **splits, label_names=texts.label_names, preprocessor=preprocessor, notes=texts.notes
    )


@dataclass(frozen=True)
class Texts:
    """Raw texts, one or two columns per split, and labels per split."""

    label_names: tuple[str, ...]
    columns: Mapping[str, list[list[str]]]
    labels: Mapping[str, list[int]]
    notes: tuple[str, ...] = ()


def _read_texts(settings: DataSettings) -> Texts:
    if settings.name == "pydoc":
        names, splits = pydoc_text.collect(pydoc_text.standard_library())
        return Texts(
            names,
            {split: [[row.text for row in rows]] for split, rows in splits.items()},
            {split: [row.label for row in rows] for split, rows in splits.items()},
        )
    tables: Tables = open_tables(settings, "text")
    parts = {name: getattr(tables, name) for name in ("train", "validation", "test")}
    columns = {
        name: [[str(text or "") for text in table.column(c)] for c in tables.inputs]
        for name, table in parts.items()
    }
    labels = {name: table.labels.tolist() for name, table in parts.items()}
    return Texts(tables.label_names, columns, labels, tables.notes)
