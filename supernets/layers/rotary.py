"""Positions as angles by which queries and keys are turned (Su et al. 2021, arXiv 2104.09864).

B batch, T tokens, D inner width, N heads, H head_dim; F = H / 2 frequencies
"""

from __future__ import annotations

import torch
from torch import Tensor


def turns(tokens: int, head_dim: int, theta: float, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosines `(1, T, 1, 1, F)`, and sines `(1, T, 1, 2, F)` with the signs of both halves."""
    fraction = torch.arange(0, head_dim, 2, device=device).float() / head_dim
    angles_TF = torch.arange(tokens, device=device).float()[:, None] * (1.0 / theta**fraction)
    cos, sin = angles_TF.cos()[None, :, None, None], angles_TF.sin()[None, :, None, None]
    return cos, torch.cat([-sin, sin], dim=3)


def turned(x_BTD: Tensor, turn: tuple[Tensor, Tensor], head_dim: int) -> Tensor:
    """Turn pairs of features, one of each half of a head, by the angles of their tokens.

    Heads stay side by side, so that the first ones can be cut from what a graph says of it.
    """
    cos, sin = turn
    x_BTN2F = x_BTD.unflatten(2, (-1, 2, head_dim // 2))
    other = torch.arange(1, -1, -1, device=x_BTD.device)
    out: Tensor = x_BTN2F * cos + x_BTN2F.index_select(3, other) * sin
    return out.flatten(2)
