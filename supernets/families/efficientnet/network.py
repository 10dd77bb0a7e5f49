"""EfficientNet as a super-network."""

from __future__ import annotations

from supernets.families.efficientnet.config import EfficientNetConfig
from supernets.families.inverted_residual.network import InvertedResidualSuperNetwork
from supernets.layers.activations import SiLU


class EfficientNetSuperNetwork(InvertedResidualSuperNetwork):
    """EfficientNet with elastic blocks per stage and channels inside the blocks."""

    def __init__(self, config: EfficientNetConfig, num_labels: int) -> None:
        super().__init__(config, num_labels, SiLU)
