"""Decoding image files: all at once if they fit into memory, else when they are needed."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from datasets import Image as ImageFeature
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from supernets.images import ImagePreprocessor
from supernets.tables import Table

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

    read: Callable[[Tensor], Sequence[Mapping[str, Any]]]
    preprocessor: ImagePreprocessor
    pool: ThreadPoolExecutor

    def __getitem__(self, rows: Tensor) -> Tensor:
        """Decode these rows, `(B, C, H, W)`."""
        decoded = self.pool.map(lambda e: decode(e, self.preprocessor), self.read(rows))
        images = [image for image in decoded if image is not None]
        assert len(images) == len(rows), "every image was decoded once when the data was opened"
        return torch.stack(images)


def load_images(
    table: Table, column: str, preprocessor: ImagePreprocessor, skip_broken: bool
) -> tuple[Tensor | ImageFiles, Tensor, int]:
    """Images, labels `(n,)` and the number of broken images left out.

    Raises ValueError that names the first broken image unless they are to be skipped.
    """
    data = table.data.cast_column(column, ImageFeature(decode=False))
    pool = ThreadPoolExecutor()
    channels = len(preprocessor.mean)
    keep = len(table.rows) * channels * preprocessor.image_size**2 <= MEMORY_BYTES
    images: list[Tensor] = []
    good: list[int] = []
    for position, entry, image in _decoded(data, column, table, preprocessor, pool):
        if image is None and not skip_broken:
            raise ValueError(
                f"data: row {table.rows[position]} of column {column!r} "
                f"({entry['path'] or 'no file name'}) is no image that can be decoded; repair or "
                "remove it, or set data.skip_broken: true"
            )
        if image is not None:
            good.append(position)
            images += [image] if keep else []
    rows = table.rows[np.array(good, dtype=np.int64)]
    labels = torch.from_numpy(table.labels[np.array(good, dtype=np.int64)])
    broken = len(table.rows) - len(good)
    if keep and images:
        return torch.stack(images), labels, broken
    return ImageFiles(lambda r: data[rows[r.numpy()]][column], preprocessor, pool), labels, broken


def _decoded(
    data: Any, column: str, table: Table, preprocessor: ImagePreprocessor, pool: ThreadPoolExecutor
) -> Iterator[tuple[int, Mapping[str, Any], Tensor | None]]:
    """Position, file and pixels of every image, in order."""
    for start in range(0, len(table.rows), CHUNK):
        entries = data[table.rows[start : start + CHUNK]][column]
        images = pool.map(lambda entry: decode(entry, preprocessor), entries)
        for offset, (entry, image) in enumerate(zip(entries, images, strict=True)):
            yield start + offset, entry, image
