"""What every transformer of texts can vary; free of torch."""

from __future__ import annotations

from typing import Any

from supernets.families.transformer_dimensions import TRANSFORMER_DIMENSIONS
from supernets.space.dimensions import SizeDimension
from supernets.space.space import VOCABULARY, Architecture, size_in


class Vocabulary(SizeDimension):
    """How many pieces texts are written in, those first that training texts use most."""

    def activate(self, network: Any, architecture: Architecture) -> None:
        """Use the rows of these pieces alone."""
        network.use_pieces(size_in(architecture, self.name, network.config.vocab_size))


TEXT_DIMENSIONS = (
    Vocabulary(
        VOCABULARY,
        "Pieces of the vocabulary, the most used ones of the training texts; null: all.",
        lambda config: {VOCABULARY: config.vocab_size},
    ),
    *TRANSFORMER_DIMENSIONS,
)
