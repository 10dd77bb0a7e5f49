"""The activation between the two MLP layers of a vision transformer; free of torch."""

from __future__ import annotations

from supernets.families.vit.config import VitConfig
from supernets.space.dimensions import ChoiceDimension


def _places(config: VitConfig) -> list[str]:
    return [f"blocks.{index}.mlp.activation" for index in range(config.depth)]


ACTIVATION = ChoiceDimension(
    "activation",
    "Activations between the two MLP layers of a block, relu and gelu; null: gelu.",
    _places,
    {"relu": "torch.nn:ReLU", "gelu": "torch.nn:GELU"},
    "hidden_act",
)
