"""What a BEiT-3 can vary; free of torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from supernets.families.beit3.config import Beit3Config
from supernets.families.image_dimensions import EMBED_DIM, RESOLUTION
from supernets.families.transformer_dimensions import TRANSFORMER_DIMENSIONS
from supernets.space.dimensions import SizeDimension, Values
from supernets.space.space import TEXT_LENGTH, Architecture, size_in


def _width(config: Beit3Config) -> dict[str, int]:
    """The stream of both halves is one, which keeps its width."""
    return {"embed_dim": config.embed_dim} if config.asks == "image" else {}


class TextLength(SizeDimension):
    """Tokens of a text."""

    def activate(self, network: Any, architecture: Architecture) -> None:
        """Expect texts of so many tokens at most; who gives them cuts them."""
        if network.config.asks != "image":
            network.active_length = size_in(architecture, self.name, network.config.max_positions)

    def problems(self, config: Any, values: Values) -> Iterator[str]:
        """A text has marks at both ends."""
        yield from super().problems(config, values)
        for width in values:
            if isinstance(width, int) and 0 < width < FEWEST_TOKENS:
                yield (
                    f"space.{self.name}: {width} tokens hold little more than the marks of a text; "
                    f"give values from {FEWEST_TOKENS}"
                )


FEWEST_TOKENS = 4
DIMENSIONS = (
    RESOLUTION,
    TextLength(
        TEXT_LENGTH,
        "Most tokens of a text, cut at its end; null: fixed.",
        lambda config: {} if config.asks == "image" else {TEXT_LENGTH: config.max_positions},
    ),
    replace(EMBED_DIM, places=_width),
    *TRANSFORMER_DIMENSIONS,
)
