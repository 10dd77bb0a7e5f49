"""The built-in image task: scikit-learn's 1,797 handwritten digits, enlarged from 8x8."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch.nn import functional as F

from supernets.data import TaskData
from supernets.images import Augmentation, ImagePreprocessor, ImageSplit, RandomAffine

N_VALIDATION, N_TEST = 397, 400
SPLIT_SEED = 0  # a property of the data set, not of a run


def load(image_size: int, augment: bool) -> TaskData:
    """Digits as grey RGB images of `image_size`, split 1000 / 397 / 400, classes in proportion."""
    data = load_digits()
    coarse = torch.tensor(data.images, dtype=torch.float32)[:, None]
    fine = F.interpolate(coarse, size=(image_size, image_size), mode="bilinear")
    pixels = (fine * (255 / 16)).round().to(torch.uint8).expand(-1, 3, -1, -1).contiguous()
    labels = torch.tensor(data.target, dtype=torch.int64)
    rest, test = _split(np.arange(len(labels)), data.target, N_TEST)
    train, validation = _split(rest, data.target, N_VALIDATION)
    values = pixels[train].float() / 255
    preprocessor = ImagePreprocessor(
        image_size, (float(values.mean()),) * 3, (float(values.std()),) * 3
    )
    augmentation: Augmentation | None = RandomAffine(10, 0.06, 0.1) if augment else None
    return TaskData(
        ImageSplit(pixels[train], labels[train], preprocessor, augmentation),
        ImageSplit(pixels[validation], labels[validation], preprocessor),
        ImageSplit(pixels[test], labels[test], preprocessor),
        tuple(str(digit) for digit in range(10)),
        preprocessor,
    )


def _split(rows: np.ndarray, labels: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    first, second = train_test_split(
        rows, test_size=size, stratify=labels[rows], random_state=SPLIT_SEED
    )
    return first, second
