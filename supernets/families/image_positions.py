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


def relative_rows(grid: int, device: torch.device) -> Tensor:
    """Rows of BEiT's table of relative places for every pair of tokens, `(T, T)`; int32.

    From one patch to another a row for each difference of places, then three: class token to
    patch, patch to class token, class token to itself (Bao et al. 2021, arXiv 2106.08254).
    """
    place = torch.arange(grid**2, dtype=torch.int32, device=device)
    across, last = 2 * grid - 1, (2 * grid - 1) ** 2
    # Of patch (y, x), y * across + x: differences of it are differences of both places.
    number = (place // grid) * across + place % grid
    pairs = number[:, None] - number[None, :] + (grid - 1) * (across + 1)
    to_class = torch.full((grid**2, 1), last + 1, dtype=torch.int32, device=device)
    from_class = torch.full((1, grid**2 + 1), last, dtype=torch.int32, device=device)
    first = torch.full((1, 1), last + 2, dtype=torch.int32, device=device)
    top = torch.cat([first, from_class[:, 1:]], dim=1)
    return torch.cat([top, torch.cat([to_class, pairs], dim=1)])
