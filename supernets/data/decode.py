"""Decoding image files: all at once if they fit into memory, else when they are needed."""

from __future__ import annotations

import io
import math
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from datasets import Dataset
from datasets import Image as ImageFeature
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from supernets.data.fingerprint import Hashes, hash_contents
from supernets.data.hf_datasets import Table
from supernets.data.image_preprocessor import ImagePreprocessor
from supernets.data.images import PixelsOf
from supernets.data.targets.labels import Rows

MEMORY_BYTES = 2 * 1024**3
"""Decoded splits up to this size are kept in memory."""

CHUNK = 1024
SLICE = 32
"""Images that a thread takes at once: handing it a small one alone takes longer than reading it."""

ORIENTATION = 0x0112
"""EXIF's tag of how the camera was held."""

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
DEEP_MODES = ("I", "I;16", "I;16L", "I;16B", "I;16N", "F")
"""Pillow's modes of more than 8 bits, which its conversion to 8 cuts at 255 without a word."""

Result = TypeVar("Result")
Items = TypeVar("Items", Rows, list[Any])


class UnreadableImageError(ValueError):
    """An image that cannot be used; the message is the reason, the same for all of its kind."""


def decode(entry: Any, preprocessor: ImagePreprocessor, folder: Path) -> Tensor | str:
    """Bytes `(C, H, W)` of an image, or why it cannot be read.

    entry: content or path as data sets store them, or values `(H, W)` or `(H, W, C)`. folder: where
    relative paths begin.
    """
    try:
        with open_image(entry, folder) as image:
            return preprocessor.pixels(loaded(image, preprocessor.shorter_side))
    except UnreadableImageError as error:
        return str(error)


def open_image(entry: Any, folder: Path) -> Image.Image:
    """Open an image without reading its pixels. Raises UnreadableImageError."""
    if isinstance(entry, Mapping):
        content, path = entry.get("bytes"), entry.get("path")
        entry = path if content is None else content
    if entry is None:
        raise UnreadableImageError("missing")
    if not isinstance(entry, str | bytes):
        return _from_values(entry)
    try:
        return Image.open(folder / entry if isinstance(entry, str) else io.BytesIO(entry))
    except FileNotFoundError:
        raise UnreadableImageError("no such file") from None
    except UnidentifiedImageError:
        raise UnreadableImageError("no image that Pillow knows") from None
    except Image.DecompressionBombError:
        raise UnreadableImageError(_too_large()) from None
    except Exception:  # a damaged header makes Pillow's readers raise any class
        raise UnreadableImageError("damaged") from None


def _content(entry: Any, folder: Path) -> bytes:
    """What an image that can be read is made of, before it is decoded."""
    if isinstance(entry, Mapping):
        entry = entry["path"] if entry.get("bytes") is None else entry["bytes"]
    if isinstance(entry, str):
        return (folder / entry).read_bytes()
    return entry if isinstance(entry, bytes) else np.asarray(entry).tobytes()


def loaded(image: Image.Image, shorter_side: int = 0) -> Image.Image:
    """An image's pixels, turned upright as its EXIF data says, in a mode of 8 bits.

    Raises UnreadableImageError for a damaged file, for values that 8 bits cannot hold, and if the
    image, enlarged until its shorter side has `shorter_side` pixels, is larger than Pillow allows.
    """
    try:
        image.load()
    except Exception:  # damaged pixels make Pillow's readers raise any class
        raise UnreadableImageError("damaged or cut off") from None
    short, long = sorted(image.size)
    if shorter_side**2 * long / short > 2 * (Image.MAX_IMAGE_PIXELS or math.inf):
        raise UnreadableImageError(_too_large())
    try:
        turn = TURNS.get(image.getexif().get(ORIENTATION, 1))
    except Exception:  # EXIF data that cannot be read says nothing about the pixels
        turn = None
    if image.mode in DEEP_MODES:
        image = _eight_bits(np.asarray(image))
    return image if turn is None else image.transpose(turn)


def _eight_bits(values: Any) -> Image.Image:
    """An image of whole values 0 to 255. Raises UnreadableImageError for others."""
    if values.min() < 0 or values.max() > 255 or (values != np.floor(values)).any():
        raise UnreadableImageError(
            "with values beyond 8 bits, which clients would cut at 255 (save with 8 bits a channel)"
        )
    return Image.fromarray(values.astype(np.uint8))


def _from_values(entry: Any) -> Image.Image:
    """An image of values `(H, W)`, `(H, W, C)` or `(C, H, W)`, C being 1, 3 or 4."""
    try:
        values = np.asarray(entry)
    except ValueError:  # rows of different length
        values = np.array(None)
    if values.ndim == 3 and values.shape[0] in (1, 3) and values.shape[2] not in (1, 3, 4):
        values = np.moveaxis(values, 0, 2)
    values = values[..., 0] if values.ndim == 3 and values.shape[2] == 1 else values
    good = values.ndim == 2 or (values.ndim == 3 and values.shape[2] in (3, 4))
    if not good or values.dtype.kind not in "iuf" or not values.size:
        raise UnreadableImageError("neither a file nor numbers (H, W) or (H, W, C)")
    return _eight_bits(values)


def _too_large() -> str:
    return f"larger than Pillow's limit of {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels"


@dataclass(frozen=True)
class ImageFiles:
    """Images as files, paths or values in one column of a split of a data set."""

    data: Dataset
    column: str
    rows: Rows
    folder: Path
    split: str

    def prepared(self, preprocessor: ImagePreprocessor) -> Tensor | DecodedFiles:
        """Bytes `(n, C, H, W)` if they fit into memory, else made each time they are read."""
        files = DecodedFiles(self, preprocessor)
        if self.fit_into_memory(preprocessor):
            return files[torch.arange(len(self.rows))]
        return files

    def fit_into_memory(self, preprocessor: ImagePreprocessor) -> bool:
        """Whether all of them are kept."""
        size = preprocessor.channels * preprocessor.image_size**2
        return len(self.rows) * size <= MEMORY_BYTES

    def hashes(self) -> Hashes:
        """A hash of each image's file, or of its values, `(n,)`; reads all and decodes none."""
        arrow = self.data.select_columns(self.column).with_format("arrow")

        def hashed(rows: Rows) -> Hashes:
            entries = arrow[rows][self.column].to_pylist()
            return hash_contents(_content(entry, self.folder) for entry in entries)

        with ThreadPoolExecutor() as pool:
            return np.concatenate(list(pool.map(hashed, _sliced(self.rows, SLICE))))

    def entries(self, positions: Rows) -> list[Any]:
        """What the data set holds for these images."""
        entries: list[Any] = self.data[self.rows[positions]][self.column]
        return entries

    def sample(self, position: int) -> bytes | Image.Image:
        """What a file holds, or the picture that values make."""
        (entry,) = self.entries(np.array([position]))
        if isinstance(entry, str | bytes | Mapping):
            return _content(entry, self.folder)
        return open_image(entry, self.folder)

    def unreadable(self, position: int, reason: str) -> ValueError:
        """The error for an image that cannot be used."""
        (entry,) = self.entries(np.array([position]))
        path = entry.get("path") if isinstance(entry, Mapping) else None
        path = entry if isinstance(entry, str) else path
        return ValueError(
            f"data: row {self.rows[position] + 1} of column {self.column!r} "
            f"({path or 'no file name'}) of the {self.split} split is no image that can be used: "
            f"{reason}; repair or remove it, or set data.skip_broken: true"
        )


@dataclass(frozen=True)
class SharedFiles:
    """Images that several rows may have. index: the place of each row's among the files `(n,)`."""

    files: ImageFiles
    index: Tensor

    def prepared(self, preprocessor: ImagePreprocessor) -> PixelsOf:
        """See `Pictures`; each image is kept once."""
        return PixelsOf(self.files.prepared(preprocessor), self.index)

    def sample(self, position: int) -> bytes | Image.Image:
        """What the file of a row's image holds, or the picture that values make."""
        return self.files.sample(int(self.index[position]))

    def hashes(self) -> Hashes:
        """A hash of each row's image, `(n,)`."""
        found: Hashes = self.files.hashes()[self.index.numpy()]
        return found


@dataclass(frozen=True)
class DecodedFiles:
    """Images that are decoded each time they are read."""

    files: ImageFiles
    preprocessor: ImagePreprocessor

    def __getitem__(self, positions: Tensor) -> Tensor:
        """Decode these images, `(B, C, H, W)`. Raises ValueError for one that cannot be read."""
        images = []
        for position, image in decoded(self.files, self.preprocessor, positions.numpy()):
            if isinstance(image, str):
                raise self.files.unreadable(position, image)
            images.append(image)
        return torch.stack(images)


@dataclass(frozen=True)
class LoadedImages:
    """Images of one split that can be used.

    kept: their positions among the table's rows `(n,)`. unreadable: position of each of the others,
    and why it cannot be read.
    """

    pixels: Tensor | DecodedFiles | PixelsOf
    pictures: ImageFiles | SharedFiles
    kept: Rows
    unreadable: Mapping[int, str]

    def part(self, positions: Rows) -> LoadedImages:
        """Those at these positions of the ones that can be used."""
        index = torch.from_numpy(positions)
        pictures = self.pictures
        if isinstance(pictures, SharedFiles):
            picked: ImageFiles | SharedFiles = SharedFiles(pictures.files, pictures.index[index])
        else:
            picked = replace(pictures, rows=pictures.rows[positions])
        return LoadedImages(PixelsOf(self.pixels, index), picked, positions, self.unreadable)

    def shared(self, places: Rows) -> LoadedImages:
        """Those of rows that name these images by their places `(n,)`."""
        rows = np.flatnonzero(np.isin(places, self.kept))
        index = torch.from_numpy(np.searchsorted(self.kept, places[rows]))
        assert isinstance(self.pictures, ImageFiles)
        pixels, pictures = PixelsOf(self.pixels, index), SharedFiles(self.pictures, index)
        reasons = {
            row: self.unreadable[place]
            for row, place in enumerate(places.tolist())
            if place in self.unreadable
        }
        return LoadedImages(pixels, pictures, rows, reasons)


def load_images(
    table: Table,
    column: str,
    preprocessor: ImagePreprocessor,
    skip_broken: bool,
    folder: Path = Path(),
) -> LoadedImages:
    """Read the images of one split; relative paths begin at `folder`.

    Raises ValueError that names the first one that cannot be read unless they are to be skipped,
    and if none can be read. If they do not fit into memory and none is to be skipped, only what
    stands at the beginning of each file is looked at now.
    """
    if table.pictures is not None:
        named = np.array(table.column(column))
        used, places = np.unique(named, return_inverse=True)
        whole = replace(table, data=table.pictures, rows=used, pictures=None)
        found_ones = load_images(whole, column, preprocessor, skip_broken, folder)
        return found_ones.shared(places)
    files = ImageFiles(_undecoded(table.data, column), column, table.rows, folder, table.split)
    keep, positions = files.fit_into_memory(preprocessor), np.arange(len(table.rows))
    glance = not keep and not skip_broken
    found = glanced(files, positions) if glance else decoded(files, preprocessor, positions)
    images: list[Tensor] = []
    kept: list[int] = []
    unreadable: dict[int, str] = {}
    for position, image in found:
        if isinstance(image, str) and not skip_broken:
            raise files.unreadable(position, image)
        if isinstance(image, str):
            unreadable[position] = image
            continue
        kept.append(position)
        images += [image] if keep and image is not None else []
    if unreadable and not kept:
        raise ValueError(
            f"data: none of {len(positions)} images in column {column!r} can be used: "
            f"{in_words(unreadable)}"
        )
    good = np.array(kept, dtype=np.int64)
    usable = replace(files, rows=table.rows[good])
    pixels = torch.stack(images) if images else DecodedFiles(usable, preprocessor)
    return LoadedImages(pixels, usable, good, unreadable)


def in_words(unreadable: Mapping[int, str]) -> str:
    """The reasons and how often each was met, the most frequent first."""
    counts = Counter(unreadable.values()).most_common()
    return "; ".join(f"{count} {reason}" for reason, count in counts)


def _undecoded(data: Dataset, column: str) -> Dataset:
    """The data set with the files in a column left as they are."""
    if isinstance(data.features[column], ImageFeature):
        return data.cast_column(column, ImageFeature(decode=False))
    return data


def decoded(
    files: ImageFiles, preprocessor: ImagePreprocessor, positions: Rows
) -> Iterator[tuple[int, Tensor | str]]:
    """Position and bytes of each image, or why it cannot be read, in order."""
    return _mapped(
        files, partial(decode, preprocessor=preprocessor, folder=files.folder), positions
    )


def glanced(files: ImageFiles, positions: Rows) -> Iterator[tuple[int, str | None]]:
    """Position of each image, and what its beginning already says against it."""

    def glance(entry: Any) -> str | None:
        try:
            open_image(entry, files.folder).close()
        except UnreadableImageError as error:
            return str(error)
        return None

    return _mapped(files, glance, positions)


def _mapped(
    files: ImageFiles, read: Callable[[Any], Result], positions: Rows
) -> Iterator[tuple[int, Result]]:
    """Position and result of `read` for each image, in order, several at a time."""
    with ThreadPoolExecutor() as pool, warnings.catch_warnings(action="ignore"):
        # Pillow warns of every oddity; what matters of them is a reason here.
        for chunk in _sliced(positions, CHUNK):
            slices = _sliced(files.entries(chunk), SLICE)
            results = pool.map(lambda entries: [read(entry) for entry in entries], slices)
            yield from zip(chunk.tolist(), chain.from_iterable(results), strict=True)


def _sliced(items: Items, size: int) -> list[Items]:
    return [items[start : start + size] for start in range(0, len(items), size)]
