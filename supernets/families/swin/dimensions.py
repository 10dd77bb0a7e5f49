"""What a Swin can vary, beside blocks per stage; free of torch."""

from __future__ import annotations

from supernets.space.dimensions import SizeDimension

NUM_HEADS = SizeDimension(
    "num_heads",
    "Attention heads per block.",
    lambda config: {
        f"{path}.attention.num_heads": config.num_heads[stage]
        for path, stage in config.blocks.items()
    },
    (0.5, 0.75, 1.0),
)
HIDDEN_DIM = SizeDimension(
    "hidden_dim",
    "MLP neurons per block.",
    lambda config: {
        f"{path}.mlp.hidden_dim": config.neurons[stage] for path, stage in config.blocks.items()
    },
    (0.25, 0.5, 0.75, 1.0),
    lambda _: 8,
)
