"""Where the tokens of an image lie: positions at another resolution, and from one to another."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def resize_patches(
    tokens_BTD: Tensor,
    prefix_tokens: int,
    grid: int,
    mode: str = "bicubic",
    antialias: bool = False,
) -> Tensor:
    """Interpolate the tokens of a square of patches to a square of `grid` times `grid`."""
    prefix, patches = tokens_BTD[:, :prefix_tokens], tokens_BTD[:, prefix_tokens:]
    old = round(patches.shape[1] ** 0.5)
    if old == grid:
        return tokens_BTD
    square = patches.transpose(1, 2).unflatten(2, (old, old))
    resized = F.interpolate(square, size=(grid, grid), mode=mode, antialias=antialias)
    return torch.cat([prefix, resized.flatten(2).transpose(1, 2)], dim=1)


def place_rows(side: int, device: torch.device) -> Tensor:
    """Rows of a table of relative places for every pair of patches of a square, `(T, T)`; int32.

    A row for each difference of places (Liu et al. 2021, arXiv 2103.14030).
    """
    place = torch.arange(side**2, dtype=torch.int32, device=device)
    across = 2 * side - 1
    # Of patch (y, x), y * across + x: differences of it are differences of both places.
    number = (place // side) * across + place % side
    return number[:, None] - number[None, :] + (side - 1) * (across + 1)


def relative_rows(grid: int, device: torch.device) -> Tensor:
    """Rows of BEiT's table for every pair of tokens, `(T, T)`; int32.

    Those of pairs of patches, then three: class token to patch, patch to class token, class token
    to itself (Bao et al. 2021, arXiv 2106.08254).
    """
    last = (2 * grid - 1) ** 2

    def same(row: int, *sizes: int) -> Tensor:
        return torch.full(sizes, row, dtype=torch.int32, device=device)

    top = torch.cat([same(last + 2, 1, 1), same(last, 1, grid**2)], dim=1)
    others = torch.cat([same(last + 1, grid**2, 1), place_rows(grid, device)], dim=1)
    return torch.cat([top, others])
