"""What a transformer of image patches can vary; free of torch."""

from __future__ import annotations

from typing import Any

from supernets.families.transformer_dimensions import TRANSFORMER_DIMENSIONS
from supernets.space.dimensions import SizeDimension
from supernets.space.space import Architecture, size_in


class Resolution(SizeDimension):
    """Height and width of the images."""

    def activate(self, network: Any, architecture: Architecture) -> None:
        """Read smaller images."""
        full = network.config.image_size
        network.active_size = size_in(architecture, self.name, full)


RESOLUTION = Resolution(
    "resolution",
    "Input sizes in pixels; null: fixed.",
    lambda config: {"resolution": config.image_size},
    multiple=lambda config: int(config.patch_size),
    strict=True,
)
EMBED_DIM = SizeDimension(
    "embed_dim",
    "Widths of the residual stream; null: fixed.",
    lambda config: {"embed_dim": config.embed_dim},
    multiple=lambda _: 8,
)
IMAGE_DIMENSIONS = (RESOLUTION, EMBED_DIM, *TRANSFORMER_DIMENSIONS)
