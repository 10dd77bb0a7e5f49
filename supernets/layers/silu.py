"""SiLU with its sigmoid as a module: kernels of integers round what that puts out."""

from __future__ import annotations

from torch import Tensor, nn


class SiLU(nn.Module):
    """x * sigmoid(x)."""

    def __init__(self) -> None:
        super().__init__()
        self.sigmoid = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        product: Tensor = x * self.sigmoid(x)
        return product
