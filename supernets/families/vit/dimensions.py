"""What a vision transformer can vary; free of torch."""

from __future__ import annotations

from supernets.families.transformer_dimensions import TRANSFORMER_DIMENSIONS
from supernets.families.vit.activation import ACTIVATION
from supernets.space.dimensions import SizeDimension

DIMENSIONS = (
    SizeDimension(
        "resolution",
        "Input sizes in pixels; null: fixed.",
        lambda config: {"resolution": config.image_size},
        multiple=lambda config: int(config.patch_size),
        strict=True,
    ),
    SizeDimension(
        "embed_dim",
        "Widths of the residual stream; null: fixed.",
        lambda config: {"embed_dim": config.embed_dim},
        multiple=lambda _: 8,
    ),
    *TRANSFORMER_DIMENSIONS,
    ACTIVATION,
)
