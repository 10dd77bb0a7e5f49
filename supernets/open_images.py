"""Images of an experiment, and texts about them, in the form that its model takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image

from supernets.data.account import DataSource, SplitSource, TextAboutImages
from supernets.data.builtin import digits
from supernets.data.data import Preprocessor, Split, TaskData
from supernets.data.decode import ImageFiles, LoadedImages, SharedFiles, in_words
from supernets.data.decode import load_images as load_column
from supernets.data.fingerprint import Hashes, hash_texts
from supernets.data.hf_datasets import Table, Tables, open_tables
from supernets.data.image_preprocessor import ImagePreprocessor, read_preprocessor
from supernets.data.images import ImageSplit, ImageTextPreprocessor, ImageTextSplit, RandomAffine
from supernets.data.targets.targets import tensors
from supernets.data.text import TextPreprocessor, TextSplit, preparing, refuse_unknown_ids
from supernets.data.vocabulary.tokenizer import train_tokenizer
from supernets.families.sizes import ImageSizes
from supernets.model_settings import ModelSettings
from supernets.pretrained.checkpoint import open_checkpoint
from supernets.pretrained.sentencepiece import tokenizer_of
from supernets.settings import DataSettings
from supernets.tasks.registry import make_task
from supernets.tasks.task import Task

SPLITS = ("train", "validation", "test")
OF_IMAGES = ("classification", "multi-label", "regression")
TEXT_INPUTS = ("input_ids", "attention_mask")
AUGMENTATION = RandomAffine(degrees=10, shift=0.1, scale=0.15, flip=True)


def load_images(
    settings: DataSettings,
    model: ModelSettings,
    config: ImageSizes,
    task: str | None,
    hint: str | None,
    known: TaskData | None = None,
) -> TaskData:
    """Open images, and texts about them where the model reads both and the data has them.

    hint: the task that the checkpoint is for, as far as it says. known: see `open_data.load_data`.
    Raises ValueError if the data, or the data with this model or task, cannot be used.
    """
    if task is not None and task not in OF_IMAGES:
        raise ValueError(
            f"task: {task} is for texts, a {config.family} model reads images; there are "
            f"{', '.join(OF_IMAGES)}"
        )
    preprocessor = _image_preprocessor(settings, model, config)
    if settings.name == "digits":
        return digits.load(preprocessor, settings)
    tables = open_tables(settings, "image", task, hint, texts_too="text" in config.kinds)
    kept: dict[str, tuple[Split, SplitSource]] = {}
    if known is not None and tables.about is None:
        kept["train"] = known.train, known.source.splits["train"]
    read = {n: _read(settings, preprocessor, tables, n) for n in SPLITS if n not in kept}
    asked = make_task(tables.task, tables.label_names, targets=tables.train.labels)
    prepare: Preprocessor = preprocessor
    notes = preprocessor.notes
    opened: dict[str, tuple[Split, SplitSource]]
    if tables.about is None:
        opened = kept | {name: _alone(rows, asked) for name, rows in read.items()}
    else:
        texts = _text_preprocessor(settings, model, config, read["train"].texts)
        prepare = ImageTextPreprocessor(preprocessor, texts, len(tables.inputs))
        notes += texts.notes
        opened = {name: _with_texts(rows, texts, asked) for name, rows in read.items()}
    return TaskData(
        **{name: split for name, (split, _) in opened.items()},
        label_names=tables.label_names,
        preprocessor=prepare,
        notes=(*notes, *tables.notes),
        source=DataSource(
            tables.label_names,
            {name: source for name, (_, source) in opened.items()},
            tables.unused,
        ),
    )


@dataclass(frozen=True)
class _Rows:
    """One split: its images, and texts about them if there are any.

    images: two sets where a row has two. pictures: what they were made from.
    """

    table: Table
    images: tuple[ImageSplit, ...]
    pictures: tuple[ImageFiles | SharedFiles, ...]
    texts: list[str]

    def source(self, cut: int = 0) -> SplitSource:
        """What is known of the rows. cut: texts that were cut."""
        table = self.table
        return SplitSource(table.labels, self.hashes, self.sample, table.found, table.left_out, cut)

    def hashes(self) -> Hashes:
        """A hash of each row's images, and of its text if it has any."""
        columns = [files.hashes() for files in self.pictures]
        if not self.texts:
            return columns[0]
        return hash_texts([*([str(one) for one in column] for column in columns), self.texts])

    def sample(self, row: int) -> bytes | Image.Image | TextAboutImages:
        """One row as it was found."""
        images = tuple(files.sample(row) for files in self.pictures)
        return TextAboutImages(images, self.texts[row]) if self.texts else images[0]


def _read(
    settings: DataSettings, preprocessor: ImagePreprocessor, tables: Tables, name: str
) -> _Rows:
    """Images that can be read, and their texts. Raises ValueError for others, see `load_column`."""
    table: Table = getattr(tables, name)
    found: list[LoadedImages] = []
    for column in tables.inputs:
        images = load_column(table, column, preprocessor, settings.skip_broken, Path(settings.name))
        reasons = in_words(images.unreadable)
        table = table.kept(images.kept, f"that cannot be read ({reasons})")
        found = [*(before.part(images.kept) for before in found), images]
    flip = tables.about is None  # a text may say left and right
    augmentation = (
        replace(AUGMENTATION, flip=flip) if settings.augment and name == "train" else None
    )
    splits = tuple(
        ImageSplit(i.pixels, tensors(table.labels), preprocessor, i.pictures, augmentation)
        for i in found
    )
    cells = [] if tables.about is None else table.column(tables.about)
    pictures = tuple(images.pictures for images in found)
    return _Rows(table, splits, pictures, [str(cell) for cell in cells])


def _alone(rows: _Rows, asked: Task) -> tuple[ImageSplit, SplitSource]:
    """A split of images. Raises ValueError for two of them a row."""
    if len(rows.images) > 1:
        raise ValueError(
            "data.image_column: two columns of images, but no text about them; name its column "
            "with data.text_column, and give a model of images and texts"
        )
    return replace(rows.images[0], task=asked), rows.source()


def _with_texts(
    rows: _Rows, texts: TextPreprocessor, asked: Task
) -> tuple[ImageTextSplit, SplitSource]:
    """A split of texts about images."""
    encoded = texts.encode(rows.texts)
    labels, pad = rows.images[0].labels, texts.tokenizer.pad_token_id
    split = TextSplit(encoded, labels, pad, TEXT_INPUTS, task=asked)
    source = rows.source(texts.count_cut(encoded, rows.texts))
    return ImageTextSplit(rows.images, split, texts.closing), source


def _text_preprocessor(
    settings: DataSettings, model: ModelSettings, config: Any, texts: Sequence[str]
) -> TextPreprocessor:
    """The checkpoint's tokenizer, or one learnt from the training texts.

    config: sizes of a network that reads texts, too.
    """
    if model.checkpoint is None:
        tokenizer = train_tokenizer(texts, config.vocab_size, TEXT_INPUTS)
    else:
        tokenizer = tokenizer_of(open_checkpoint(model.checkpoint).folder)
    own = tokenizer.model_max_length
    preprocessor = preparing(tokenizer, settings, config.max_positions, own)
    refuse_unknown_ids(preprocessor, config.vocab_size)
    return preprocessor


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
