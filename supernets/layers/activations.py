"""Activations between two layers, by transformers' names."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


class QuickGELU(nn.Module):
    """The approximation of GELU that CLIP was trained with (Hendrycks and Gimpel 2016, eq. 2)."""

    def forward(self, x: Tensor) -> Tensor:
        """x times the logistic function of 1.702 x."""
        return x * torch.sigmoid(1.702 * x)


class SiLU(nn.Module):
    """x * sigmoid(x), its sigmoid a module: kernels of integers round what that puts out."""

    def __init__(self) -> None:
        super().__init__()
        self.sigmoid = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        product: Tensor = x * self.sigmoid(x)
        return product


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "gelu": nn.GELU,
    "gelu_pytorch_tanh": lambda: nn.GELU("tanh"),
    "quick_gelu": QuickGELU,
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
}
