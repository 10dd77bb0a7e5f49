"""Decoding image files: all at once if they fit into memory, else when they are needed."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from datasets import Image as ImageFeature
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from supernets.data.hf_datasets import Rows, Table
from supernets.data.images import ImagePreprocessor

MEMORY_BYTES = 2 * 1024**3
"""Decoded splits up to this size are kept in memory."""

CHUNK = 1024


def decode(entry: Mapping[str, Any], preprocessor: ImagePreprocessor) -> Tensor | None:
    """Bytes `(C, H, W)` of one image file, given by content or path; None if it is broken."""
    content = entry["bytes"]
    try:
        with Image.open(entry["path"] if content is None else io.BytesIO(content)) as image:
            return preprocessor.pixels(image)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError):
        return None


@dataclass(frozen=True)
class ImageFiles:
    """Images that are decoded each time they are read."""

    data: Dataset
    column: str
    rows: Rows
    preprocessor: ImagePreprocessor
    pool: ThreadPoolExecutor

    def __getitem__(self, positions: Tensor) -> Tensor:
        """Decode these images, `(B, C, H, W)`. Raises ValueError for a broken one."""
        rows = self.rows[positions.numpy()]
        entries = self.data[rows][self.column]
        images = []
        decoded = self.pool.map(lambda entry: decode(entry, self.preprocessor), entries)
        for row, entry, image in zip(rows, entries, decoded, strict=True):
            if image is None:
                raise broken_image(int(row), self.column, entry)
            images.append(image)
        return torch.stack(images)


def load_images(
    table: Table, column: str, preprocessor: ImagePreprocessor, skip_broken: bool
) -> tuple[Tensor | ImageFiles, Tensor, int]:
    """Images, labels `(n,)` and the number of broken images left out.

    Raises ValueError that names the first broken image unless they are to be skipped. Images that
    do not fit into memory are looked through beforehand only if broken ones are to be skipped.
    """
    data = table.data.cast_column(column, ImageFeature(decode=False))
    pool = ThreadPoolExecutor()
    channels = len(preprocessor.mean)
    keep = len(table.rows) * channels * preprocessor.image_size**2 <= MEMORY_BYTES
    if not keep and not skip_broken:
        files = ImageFiles(data, column, table.rows, preprocessor, pool)
        return files, torch.from_numpy(table.labels), 0
    images: list[Tensor] = []
    good: list[int] = []
    for position, entry, image in _decoded(data, column, table, preprocessor, pool):
        if image is None and not skip_broken:
            raise broken_image(int(table.rows[position]), column, entry)
        if image is not None:
            good.append(position)
            images += [image] if keep else []
    rows = table.rows[np.array(good, dtype=np.int64)]
    labels = torch.from_numpy(table.labels[np.array(good, dtype=np.int64)])
    broken = len(table.rows) - len(good)
    if keep and images:
        return torch.stack(images), labels, broken
    return ImageFiles(data, column, rows, preprocessor, pool), labels, broken


def broken_image(row: int, column: str, entry: Mapping[str, Any]) -> ValueError:
    """The error for an image that cannot be decoded."""
    return ValueError(
        f"data: row {row} of column {column!r} ({entry['path'] or 'no file name'}) is no image "
        "that can be decoded; repair or remove it, or set data.skip_broken: true"
    )


def _decoded(
    data: Any, column: str, table: Table, preprocessor: ImagePreprocessor, pool: ThreadPoolExecutor
) -> Iterator[tuple[int, Mapping[str, Any], Tensor | None]]:
    """Position, file and pixels of every image, in order."""
    for start in range(0, len(table.rows), CHUNK):
        entries = data[table.rows[start : start + CHUNK]][column]
        images = pool.map(lambda entry: decode(entry, preprocessor), entries)
        for offset, (entry, image) in enumerate(zip(entries, images, strict=True)):
            yield start + offset, entry, image
