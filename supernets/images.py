"""Images in memory: normalisation, augmentation, splits.

B batch, C channels, H height, W width
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from supernets.data import Batch, batch_indices

Augmentation = Callable[[Tensor, torch.Generator], Tensor]


@dataclass(frozen=True)
class ImagePreprocessor:
    """Resize to a square, scale to 0..1, subtract the mean and divide by the deviation."""

    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def normalise(self, pixels_BCHW: Tensor) -> Tensor:
        """Turn bytes into network inputs."""
        mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in (self.mean, self.std))
        return (pixels_BCHW.float() / 255 - mean) / std

    def save(self, folder: Path) -> None:
        """Write preprocessor_config.json as transformers' ViTImageProcessor reads it."""
        config = {
            "image_processor_type": "ViTImageProcessor",
            "do_resize": True,
            "size": {"height": self.image_size, "width": self.image_size},
            "resample": 2,
            "do_rescale": True,
            "rescale_factor": 1 / 255,
            "do_normalize": True,
            "image_mean": list(self.mean),
            "image_std": list(self.std),
        }
        text = json.dumps(config, indent=2)
        (folder / "preprocessor_config.json").write_text(text, encoding="utf-8")


@dataclass(frozen=True)
class ImageSplit:
    """Images held as bytes `(n, C, H, W)` with labels `(n,)`."""

    pixels: Tensor
    labels: Tensor
    preprocessor: ImagePreprocessor
    augmentation: Augmentation | None = None

    def __len__(self) -> int:
        """Number of images."""
        return len(self.labels)

    def batches(
        self, batch_size: int, *, generator: torch.Generator | None = None, start: int = 0
    ) -> Iterator[Batch]:
        """Yield batches, see `Split`."""
        for rows, own in batch_indices(len(self), batch_size, generator, start):
            pixels = self.preprocessor.normalise(self.pixels[rows])
            if own is not None and self.augmentation is not None:
                pixels = self.augmentation(pixels, own)
            yield Batch({"pixel_values": pixels}, self.labels[rows])


@dataclass(frozen=True)
class RandomAffine:
    """Turn, shift and scale each image by its own small random amount."""

    degrees: float
    shift: float
    scale: float

    def __call__(self, pixels_BCHW: Tensor, generator: torch.Generator) -> Tensor:
        """Sample bilinearly; what comes in from outside repeats the border."""
        n = len(pixels_BCHW)
        angle, dx, dy, zoom = (torch.rand(4, n, generator=generator) * 2 - 1).unbind()
        angle, zoom = angle * math.radians(self.degrees), 1 + zoom * self.scale
        cos, sin = angle.cos() / zoom, angle.sin() / zoom
        rows = [cos, -sin, dx * 2 * self.shift, sin, cos, dy * 2 * self.shift]
        theta = torch.stack(rows, dim=1).view(n, 2, 3)
        grid = F.affine_grid(theta, list(pixels_BCHW.shape), align_corners=False)
        return F.grid_sample(pixels_BCHW, grid, padding_mode="border", align_corners=False)
