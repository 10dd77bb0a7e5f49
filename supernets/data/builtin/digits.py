"""The built-in image task: scikit-learn's 1,797 handwritten digits, enlarged from 8x8."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor
from torch.nn import functional as F

from supernets.data.account import DataSource, SplitSource
from supernets.data.data import TaskData
from supernets.data.fingerprint import Hashes, hash_contents
from supernets.data.hf_datasets import BEYOND, at_most
from supernets.data.image_preprocessor import ImagePreprocessor
from supernets.data.images import Augmentation, ImageSplit, RandomAffine
from supernets.settings import DataSettings
from supernets.tasks.classification import Classification

Rows = NDArray[np.int64]

N_VALIDATION, N_TEST = 397, 400
DARKEST = 16  # scikit-learn's scale
SPLIT_SEED = 0  # a property of the data set, not of a run


@dataclass(frozen=True)
class GreyPictures:
    """Grey images: bytes `(n, H, W)`."""

    grey: Tensor

    def picture(self, row: int) -> Image.Image:
        """One image."""
        return Image.fromarray(self.grey[row].numpy())

    def prepared(self, preprocessor: ImagePreprocessor) -> Tensor:
        """The images as this preprocessor makes them, `(n, C, H, W)`."""
        pictures = map(self.picture, range(len(self.grey)))
        return torch.stack([preprocessor.pixels(picture) for picture in pictures])


def load(preprocessor: ImagePreprocessor, settings: DataSettings) -> TaskData:
    """Digits as grey pictures of the preprocessor's size, split 1000 / 397 / 400 by class."""
    data = load_digits()
    coarse = torch.tensor(data.images, dtype=torch.float32)[:, None]
    size = (preprocessor.image_size, preprocessor.image_size)
    fine = F.interpolate(coarse, size=size, mode="bilinear") * (255 / DARKEST)
    pictures = fine[:, 0].round().to(torch.uint8)
    labels = torch.tensor(data.target, dtype=torch.int64)
    rest, test = _split(np.arange(len(labels)), data.target, N_TEST)
    train, validation = _split(rest, data.target, N_VALIDATION)
    whole = {"train": train, "validation": validation, "test": test}
    kept = {n: rows[at_most(data.target[rows], settings.most(n))] for n, rows in whole.items()}
    names = tuple(str(digit) for digit in range(10))
    sources = {
        name: SplitSource(
            data.target[rows],
            partial(_hashes, data.images[rows]),
            GreyPictures(pictures[rows]).picture,
            len(whole[name]),
            {BEYOND.format(name): len(whole[name]) - len(rows)},
        )
        for name, rows in kept.items()
    }

    def part(rows: Rows, augmentation: Augmentation | None = None) -> ImageSplit:
        own = GreyPictures(pictures[rows])
        pixels, task = own.prepared(preprocessor), Classification(names)
        return ImageSplit(pixels, labels[rows], preprocessor, own, augmentation, task)

    return TaskData(
        part(kept["train"], RandomAffine(10, 0.06, 0.1) if settings.augment else None),
        part(kept["validation"]),
        part(kept["test"]),
        names,
        preprocessor,
        source=DataSource(names, sources),
    )


def _hashes(images_NHW: NDArray[np.float64]) -> Hashes:
    return hash_contents(image.tobytes() for image in images_NHW)


def _split(rows: Rows, labels: Rows, size: int) -> tuple[Rows, Rows]:
    first, second = train_test_split(
        rows, test_size=size, stratify=labels[rows], random_state=SPLIT_SEED
    )
    return first, second
