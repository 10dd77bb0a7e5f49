"""Global response normalisation of ConvNeXt V2.

After Woo et al. 2023, "ConvNeXt V2", section 3, algorithm 1. B batch, H height, W width, C channels
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from supernets.layers.elastic import Elastic

EPS = 1e-6


def _normalised(x_BHWC: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    norm_B11C: Tensor = torch.linalg.vector_norm(x_BHWC, dim=(1, 2), keepdim=True)
    share_B11C = norm_B11C / (norm_B11C.mean(dim=-1, keepdim=True) + EPS)
    return weight * (x_BHWC * share_B11C) + bias + x_BHWC


class ResponseNorm(nn.Module):
    """Weigh each channel by its share of all channels' norms."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """Weigh channels-last feature maps."""
        return _normalised(x_BHWC, self.weight, self.bias)


class ElasticResponseNorm(ResponseNorm, Elastic):
    """Response norm of the first channels only; it begins as the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__(torch.zeros(channels), torch.zeros(channels))
        self.active_out = channels

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """Weigh channels-last feature maps of the active channels."""
        return _normalised(x_BHWC, self.weight[: self.active_out], self.bias[: self.active_out])

    def extract(self) -> ResponseNorm:
        """Copy the active part into a plain module."""
        parameters = (self.weight[: self.active_out], self.bias[: self.active_out])
        return ResponseNorm(*(p.detach().clone() for p in parameters))
