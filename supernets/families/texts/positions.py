"""Where tokens lie from each other, as rows of tables of learned positions.

T tokens
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional


def distances(tokens: int, device: torch.device) -> Tensor:
    """How many places each token lies after another that looks at it, `(T, T)`."""
    place = torch.arange(tokens, device=device)
    return place[None, :] - place[:, None]


def looked_up(row_of_distance: Tensor, tokens: int) -> Tensor:
    """Row of every pair of tokens, `(T, T)`, from those of the distances 1 - n to n - 1."""
    places = distances(tokens, row_of_distance.device) + len(row_of_distance) // 2
    return functional.embedding(places, row_of_distance[:, None])[..., 0]


def bucket_rows(most: int, buckets: int, farthest: int = 128) -> Tensor:
    """Rows of all distances between `most` tokens: half of the buckets for each direction, of
    which half hold one distance each, the others ranges that widen up to `farthest` (Raffel et al.
    2020, section 2.1)."""
    distance, half, exact = torch.arange(1 - most, most), buckets // 2, buckets // 4
    far = distance.abs().clamp(min=exact).float()
    wide = (torch.log(far / exact) / math.log(farthest / exact) * (half - exact)).long() + exact
    near = torch.where(distance.abs() < exact, distance.abs(), wide.clamp(max=half - 1))
    return near + (distance > 0).long() * half


def span_rows(most: int, span: int, farthest: int | None) -> Tensor:
    """Rows of all distances between `most` tokens among `2 * span`, by how far the token that looks
    lies after the other. With `farthest`, distances from `span / 2` on are told
    apart less and less, up to it (He et al. 2021, arXiv 2006.03654, and its published code)."""
    distance = torch.arange(most - 1, -most, -1)
    if farthest is not None:
        middle = span // 2
        far = distance.abs().clamp(min=middle) / middle
        scale = torch.log(torch.tensor((farthest - 1) / middle))
        wide = torch.ceil(torch.log(far) / scale * (middle - 1)) + middle
        distance = torch.where(distance.abs() <= middle, distance, wide * distance.sign()).long()
    return (distance + span).clamp(0, 2 * span - 1)
