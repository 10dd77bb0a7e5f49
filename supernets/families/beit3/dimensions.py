"""What a BEiT-3 can vary; free of torch."""

from __future__ import annotations

from dataclasses import replace

from supernets.families.beit3.config import Beit3Config
from supernets.families.image_dimensions import EMBED_DIM, RESOLUTION
from supernets.families.transformer_dimensions import TRANSFORMER_DIMENSIONS


def _width(config: Beit3Config) -> dict[str, int]:
    """The stream of both halves is one, which keeps its width."""
    return {"embed_dim": config.embed_dim} if config.asks == "image" else {}


DIMENSIONS = (RESOLUTION, replace(EMBED_DIM, places=_width), *TRANSFORMER_DIMENSIONS)
