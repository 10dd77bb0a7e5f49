"""What every transformer can vary; free of torch."""

from __future__ import annotations

from supernets.families.sizes import TransformerSizes
from supernets.space.dimensions import DepthDimension, SizeDimension


def _heads(config: TransformerSizes) -> dict[str, int]:
    return {f"{part}.attention.num_heads": config.num_heads for part in _parts(config)}


def _neurons(config: TransformerSizes) -> dict[str, int]:
    return {f"{part}.mlp.hidden_dim": config.hidden_dim for part in _parts(config)}


def _parts(config: TransformerSizes) -> list[str]:
    return [f"blocks.{i}{part}" for i in range(config.depth) for part in config.parts(i)]


TRANSFORMER_DIMENSIONS = (
    DepthDimension(
        "depth",
        "Numbers of transformer blocks.",
        lambda config: {"depth": config.depth},
        (0.5, 0.67, 0.83, 1.0),
    ),
    SizeDimension("num_heads", "Attention heads per block.", _heads, (0.5, 0.75, 1.0)),
    SizeDimension(
        "hidden_dim", "MLP neurons per block.", _neurons, (0.25, 0.5, 0.75, 1.0), lambda _: 8
    ),
)
