"""Images: preprocessing, augmentation, splits.

B batch, C channels, H height, W width
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from supernets.data.data import CPU, Batch, batch_indices

Augmentation = Callable[[Tensor, torch.Generator], Tensor]
IMAGE_PROCESSOR_FILE = "preprocessor_config.json"
CONVNEXT_UNCUT = 384
"""From this size on transformers' ConvNext processor resizes both sides and cuts nothing."""


@dataclass(frozen=True)
class ImagePreprocessor:
    """Resize, cut the centre, scale to 0..1, subtract the mean and divide by the deviation.

    resized: side before the centre of `image_size` is cut, None if nothing is cut.
    keep_aspect: whether `resized` is the shorter side, not both. resample: PIL's number of the
    interpolation. config: keys to write back on saving.
    """

    image_size: int
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    resized: int | None = None
    keep_aspect: bool = False
    resample: int = Image.Resampling.BILINEAR.value
    config: Mapping[str, Any] = field(default_factory=dict)

    def pixels(self, image: Image.Image) -> Tensor:
        """Turn an image into bytes `(C, H, W)` of the final size."""
        size, resample = self.image_size, Image.Resampling(self.resample)
        image = image.convert("L" if len(self.mean) == 1 else "RGB")
        width = height = self.resized or size
        if self.keep_aspect:
            scale = width / min(image.size)
            width, height = (round(side * scale) for side in image.size)
        image = image.resize((width, height), resample)
        left, top = (width - size) // 2, (height - size) // 2
        image = image.crop((left, top, left + size, top + size))
        array = np.array(image, dtype=np.uint8)
        return torch.from_numpy(array.reshape(size, size, -1)).permute(2, 0, 1).contiguous()

    def normalise(self, pixels_BCHW: Tensor) -> Tensor:
        """Turn bytes into network inputs."""
        device = pixels_BCHW.device
        mean, std = (torch.tensor(v, device=device).view(-1, 1, 1) for v in (self.mean, self.std))
        return (pixels_BCHW.float() / 255 - mean) / std

    def save(self, folder: Path, image_size: int | None = None) -> None:
        """Write preprocessor_config.json as transformers reads it, at another size if given."""
        size = image_size or self.image_size
        config: dict[str, Any] = {
            "image_processor_type": "ViTImageProcessor",
            "do_resize": True,
            "size": {"height": size, "width": size},
            "resample": self.resample,
            "do_rescale": True,
            "rescale_factor": 1 / 255,
            "do_normalize": True,
            "image_mean": list(self.mean),
            "image_std": list(self.std),
        }
        config |= self.config if size == self.image_size else {}
        text = json.dumps(config, indent=2)
        (folder / IMAGE_PROCESSOR_FILE).write_text(text, encoding="utf-8")


def read_preprocessor(folder: Path, image_size: int | None) -> ImagePreprocessor:
    """Take a checkpoint's image preprocessing over, at another size if given.

    Raises ValueError for a preprocessing we cannot reproduce.
    """
    file = folder / IMAGE_PROCESSOR_FILE
    if not file.is_file():
        raise ValueError(
            f"model.checkpoint: {folder} has no {IMAGE_PROCESSOR_FILE}; add the one the model was "
            "trained with (mean, deviation, size)"
        )
    config = json.loads(file.read_text(encoding="utf-8"))
    size, resized, keep_aspect = _sizes(config, file)
    asked = image_size or size
    return ImagePreprocessor(
        asked,
        tuple(config.get("image_mean") or (0.0, 0.0, 0.0)),
        tuple(config.get("image_std") or (1.0, 1.0, 1.0)),
        round(resized * asked / size),
        keep_aspect,
        config.get("resample", Image.Resampling.BILINEAR.value),
        {key: value for key, value in config.items() if key != "auto_map" and asked == size},
    )


def _sizes(config: Mapping[str, Any], file: Path) -> tuple[int, int, bool]:
    """Final size, size before the centre is cut, and whether that is the shorter side."""
    size, crop = config.get("size", 224), config.get("crop_size")
    size = {"height": size, "width": size} if isinstance(size, int) else size
    edge = size.get("shortest_edge", size.get("height"))
    keep_aspect = "shortest_edge" in size
    if edge is None or (not keep_aspect and size.get("width") != edge):
        raise ValueError(f"model.checkpoint: {file} asks for size {size}; only squares work")
    if config.get("do_center_crop") and isinstance(crop, (int, dict)):
        return crop if isinstance(crop, int) else crop["height"], edge, keep_aspect
    if keep_aspect and edge < CONVNEXT_UNCUT:
        return edge, int(edge / (config.get("crop_pct") or 224 / 256)), True
    return edge, edge, keep_aspect and edge < CONVNEXT_UNCUT


class Pixels(Protocol):
    """Images as bytes `(C, H, W)`, by row."""

    def __getitem__(self, rows: Tensor, /) -> Tensor:
        """The images of these rows, `(B, C, H, W)`."""


@dataclass(frozen=True)
class ImageSplit:
    """Images as bytes with labels `(n,)`."""

    pixels: Pixels
    labels: Tensor
    preprocessor: ImagePreprocessor
    augmentation: Augmentation | None = None

    @property
    def augmented(self) -> bool:
        """Whether there is an augmentation."""
        return self.augmentation is not None

    def __len__(self) -> int:
        """Number of images."""
        return len(self.labels)

    def batches(
        self,
        batch_size: int,
        *,
        generator: torch.Generator | None = None,
        augment: bool = True,
        start: int = 0,
        device: torch.device = CPU,
    ) -> Iterator[Batch]:
        """Yield batches, see `Split`; images are sent as bytes and changed on the device."""
        for rows, own in batch_indices(len(self), batch_size, generator, start):
            pixels = self.preprocessor.normalise(self.pixels[rows].to(device))
            if own is not None and augment and self.augmentation is not None:
                pixels = self.augmentation(pixels, own)
            yield Batch({"pixel_values": pixels}, self.labels[rows], rows).to(device)


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
