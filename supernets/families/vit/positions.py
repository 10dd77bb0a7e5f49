"""Tokens of an image at another resolution."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def resize_patches(
    tokens_BTD: Tensor, prefix_tokens: int, grid: int, mode: str = "bicubic"
) -> Tensor:
    """Interpolate the tokens of a square of patches to a square of `grid` times `grid`."""
    prefix, patches = tokens_BTD[:, :prefix_tokens], tokens_BTD[:, prefix_tokens:]
    old = round(patches.shape[1] ** 0.5)
    if old == grid:
        return tokens_BTD
    square = patches.transpose(1, 2).unflatten(2, (old, old))
    resized = F.interpolate(square, size=(grid, grid), mode=mode)
    return torch.cat([prefix, resized.flatten(2).transpose(1, 2)], dim=1)
