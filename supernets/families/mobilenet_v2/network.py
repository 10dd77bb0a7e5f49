"""MobileNetV2 as a super-network."""

from __future__ import annotations

from torch import nn

from supernets.families.inverted_residual.network import InvertedResidualSuperNetwork
from supernets.families.mobilenet_v2.config import MobileNetV2Config


class MobileNetV2SuperNetwork(InvertedResidualSuperNetwork):
    """MobileNetV2 with elastic blocks per stage and channels inside the blocks."""

    def __init__(self, config: MobileNetV2Config, num_labels: int) -> None:
        super().__init__(config, num_labels, nn.ReLU6)
