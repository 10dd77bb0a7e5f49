"""The built-in image task: scikit-learn's 1,797 handwritten digits, enlarged from 8x8."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch.nn import functional as F

from supernets.data.data import TaskData
from supernets.data.images import Augmentation, ImagePreprocessor, ImageSplit, RandomAffine

Rows = NDArray[np.int64]

N_VALIDATION, N_TEST = 397, 400
DARKEST = 16  # scikit-learn's scale
SPLIT_SEED = 0  # a property of the data set, not of a run


def load(preprocessor: ImagePreprocessor, augment: bool) -> TaskData:
    """Digits as grey images of the preprocessor's size, split 1000 / 397 / 400 by class."""
    data = load_digits()
    coarse = torch.tensor(data.images, dtype=torch.float32)[:, None]
    size = (preprocessor.image_size, preprocessor.image_size)
    fine = F.interpolate(coarse, size=size, mode="bilinear") * (255 / DARKEST)
    channels = len(preprocessor.mean)
    pixels = fine.round().to(torch.uint8).expand(-1, channels, -1, -1).contiguous()
    labels = torch.tensor(data.target, dtype=torch.int64)
    rest, test = _split(np.arange(len(labels)), data.target, N_TEST)
    train, validation = _split(rest, data.target, N_VALIDATION)
    augmentation: Augmentation | None = RandomAffine(10, 0.06, 0.1) if augment else None
    return TaskData(
        ImageSplit(pixels[train], labels[train], preprocessor, augmentation),
        ImageSplit(pixels[validation], labels[validation], preprocessor),
        ImageSplit(pixels[test], labels[test], preprocessor),
        tuple(str(digit) for digit in range(10)),
        preprocessor,
    )


def _split(rows: Rows, labels: Rows, size: int) -> tuple[Rows, Rows]:
    first, second = train_test_split(
        rows, test_size=size, stratify=labels[rows], random_state=SPLIT_SEED
    )
    return first, second
