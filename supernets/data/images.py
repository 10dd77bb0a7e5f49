"""Splits of images and of texts about them, and what changes training images at random.

B batch, C channels, H height, W width
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from supernets.data.data import Batch, Split
from supernets.data.image_preprocessor import ImagePreprocessor
from supernets.data.text import TextPreprocessor, TextSplit
from supernets.settings import Kind
from supernets.space.space import FULL, RESOLUTION, TEXT_LENGTH, Architecture, size_in
from supernets.tasks.classification import CLASSIFICATION
from supernets.tasks.task import Targets, Task

Augmentation = Callable[[Tensor, torch.Generator], Tensor]


class Pixels(Protocol):
    """Images as bytes `(C, H, W)`, by row."""

    def __getitem__(self, rows: Tensor, /) -> Tensor:
        """The images of these rows, `(B, C, H, W)`."""


class Pictures(Protocol):
    """Images as they are stored, from which bytes of any size are made."""

    def prepared(self, preprocessor: ImagePreprocessor) -> Pixels:
        """The images as this preprocessor makes them."""


@dataclass(frozen=True)
class ImageSplit(Split):
    """Images as bytes with labels `(n,)`, and the pictures they were made from."""

    pixels: Pixels
    labels: Tensor
    preprocessor: ImagePreprocessor
    pictures: Pictures
    augmentation: Augmentation | None = None
    task: Task = CLASSIFICATION
    _resized: dict[int, ImageSplit] = field(default_factory=dict, init=False, repr=False)

    def part(self, rows: Tensor) -> ImageSplit:
        """These images alone."""
        pixels, pictures = PixelsOf(self.pixels, rows), PicturesOf(self, rows)
        labels = self.labels[rows]
        return replace(self, pixels=pixels, labels=labels, pictures=pictures)

    def resized_to(self, image_size: int) -> ImageSplit:
        """The same images prepared for another size, as an exported model's client does it.

        Resizing the prepared images again would give other pixels.
        """
        if image_size == self.preprocessor.image_size:
            return self
        if image_size not in self._resized:
            preprocessor = self.preprocessor.resized_to(image_size)
            pixels = self.pictures.prepared(preprocessor)
            self._resized[image_size] = replace(self, pixels=pixels, preprocessor=preprocessor)
        return self._resized[image_size]

    def seen_by(self, architecture: Architecture) -> ImageSplit:
        """The images in the size that the sub-network takes."""
        return self.resized_to(size_in(architecture, RESOLUTION, self.preprocessor.image_size))

    def rewritten(self, batch: Batch, architecture: Architecture) -> Batch:
        """Images as they are: what was changed at random stays changed."""
        return batch

    @property
    def augmented(self) -> bool:
        """Whether there is an augmentation."""
        return self.augmentation is not None

    def inputs_of(
        self, rows: Tensor, generator: torch.Generator | None, device: torch.device
    ) -> dict[str, Tensor]:
        """Pixels `(B, C, H, W)`, sent as bytes and changed on the device."""
        pixels = self.preprocessor.normalise(self.pixels[rows].to(device))
        if generator is not None and self.augmentation is not None:
            pixels = self.augmentation(pixels, generator)
        return {"pixel_values": pixels}


@dataclass(frozen=True)
class PixelsOf:
    """Some rows of a split's pixels."""

    whole: Pixels
    rows: Tensor

    def __getitem__(self, rows: Tensor, /) -> Tensor:
        """See `Pixels`."""
        return self.whole[self.rows[rows]]


@dataclass(frozen=True)
class PicturesOf:
    """Some rows of a split's pictures, which are prepared once for all parts of it."""

    whole: ImageSplit
    rows: Tensor

    def prepared(self, preprocessor: ImagePreprocessor) -> PixelsOf:
        """See `Pictures`."""
        return PixelsOf(self.whole.resized_to(preprocessor.image_size).pixels, self.rows)


@dataclass(frozen=True)
class RandomAffine:
    """Turn, shift, scale and flip each image by its own random amount.

    degrees: largest turn. shift: largest shift as part of the side. scale: largest relative change
    of size. flip: whether half of the images are mirrored left to right.
    """

    degrees: float
    shift: float
    scale: float
    flip: bool = False

    def __call__(self, pixels_BCHW: Tensor, generator: torch.Generator) -> Tensor:
        """Sample bilinearly; what comes in from outside repeats the border."""
        draws = torch.rand(5, len(pixels_BCHW), generator=generator).to(pixels_BCHW.device)
        angle, dx, dy, zoom, side = (draws * 2 - 1).unbind()
        angle, zoom = angle * math.radians(self.degrees), 1 + zoom * self.scale
        mirror = torch.where(side < 0, -1.0, 1.0) if self.flip else torch.ones_like(side)
        cos, sin = angle.cos() / zoom, angle.sin() / zoom
        rows = [cos * mirror, -sin, dx * 2 * self.shift, sin * mirror, cos, dy * 2 * self.shift]
        theta = torch.stack(rows, dim=1).view(-1, 2, 3)
        grid = F.affine_grid(theta, list(pixels_BCHW.shape), align_corners=False)
        return F.grid_sample(pixels_BCHW, grid, padding_mode="border", align_corners=False)


@dataclass(frozen=True)
class ImageTextPreprocessor:
    """An image processor and a tokenizer, each beside the other in an exported folder.

    count: how many images a text is about.
    """

    images: ImagePreprocessor
    texts: TextPreprocessor
    count: int = 1

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """What a sample has."""
        image: Kind = "image"
        return (*[image] * self.count, "text")

    def save(self, folder: Path, architecture: Architecture = FULL) -> None:
        """Write the files of both."""
        self.images.save(folder, architecture)
        length = size_in(architecture, TEXT_LENGTH, self.texts.max_length)
        replace(self.texts, max_length=min(length, self.texts.max_length)).save(folder)


@dataclass(frozen=True)
class ImageTextSplit(Split):
    """Texts with targets, and the images that each is about, row by row.

    closing: how many tokens end every text, whatever its length.
    """

    images: tuple[ImageSplit, ...]
    texts: TextSplit
    closing: int = 1

    @property
    def task(self) -> Task:  # type: ignore[override] # as read-only as the others' frozen fields
        """What is asked about the samples."""
        return self.texts.task

    @property
    def labels(self) -> Targets:  # type: ignore[override] # the same
        """The target of every sample."""
        return self.texts.labels

    @property
    def lengths(self) -> Tensor:
        """Tokens of each text `(n,)`."""
        return self.texts.lengths

    @property
    def augmented(self) -> bool:
        """Whether samples are changed at random."""
        return self.texts.augmented or any(split.augmented for split in self.images)

    def part(self, rows: Tensor) -> ImageTextSplit:
        """These samples alone."""
        images = tuple(split.part(rows) for split in self.images)
        return replace(self, images=images, texts=self.texts.part(rows))

    def seen_by(self, architecture: Architecture) -> ImageTextSplit:
        """The same with images of the size, and texts of the length, that the sub-network takes."""
        images = tuple(split.seen_by(architecture) for split in self.images)
        length, texts = size_in(architecture, TEXT_LENGTH, 0), self.texts
        if length:
            kept = [self._cut(text, text.shape[1], length) for text in texts.texts]
            texts = replace(texts, texts=kept)
        return replace(self, images=images, texts=texts)

    def rewritten(self, batch: Batch, architecture: Architecture) -> Batch:
        """A batch with texts cut to a sub-network's length."""
        ids, mask = batch.inputs["input_ids"], batch.inputs["attention_mask"]
        length = size_in(architecture, TEXT_LENGTH, ids.shape[1])
        if length >= ids.shape[1]:
            return batch
        cut = self._cut(ids, mask.sum(dim=1), length)
        texts = {"input_ids": cut, "attention_mask": mask[:, :length]}
        return replace(batch, inputs={**batch.inputs, **texts})

    def _cut(self, rows: Tensor, tokens: Tensor | int, length: int) -> Tensor:
        """Rows `(n, T)` of so many tokens `(n,)` as their tokenizer cuts them to a length.

        What ends a text stays, what stands before it goes.
        """
        counts = torch.as_tensor(tokens, device=rows.device).expand(len(rows))[:, None]
        places = torch.arange(min(length, rows.shape[1]), device=rows.device)[None]
        moved = (counts > length) & (places >= length - self.closing)
        return rows.gather(1, torch.where(moved, places + counts - length, places))

    def inputs_of(
        self, rows: Tensor, generator: torch.Generator | None, device: torch.device
    ) -> dict[str, Tensor]:
        """Pixels `(B, C, H, W)`, of two images `(B, 2, C, H, W)`, and those of the texts."""
        given = [split.inputs_of(rows, generator, device) for split in self.images]
        pixels = [inputs["pixel_values"] for inputs in given]
        return {
            "pixel_values": torch.stack(pixels, dim=1) if pixels[1:] else pixels[0],
            **self.texts.inputs_of(rows, generator, device),
        }
