"""What a transformer of image patches can vary; free of torch."""

from __future__ import annotations

from supernets.families.transformer_dimensions import TRANSFORMER_DIMENSIONS
from supernets.space.dimensions import SizeDimension

RESOLUTION = SizeDimension(
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
