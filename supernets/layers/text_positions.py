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


def bucket_rows(tokens: int, buckets: int, most: int, device: torch.device) -> Tensor:
    """Bucket of every pair of tokens, `(T, T)`; `most` tokens may ever be.

    A lookup of distances, so that a graph holds the buckets and does not compute them.
    """
    of_distance = log_buckets(torch.arange(1 - most, most, device=device), buckets)
    return functional.embedding(distances(tokens, device) + most - 1, of_distance[:, None])[..., 0]


def log_buckets(distance: Tensor, buckets: int, farthest: int = 128) -> Tensor:
    """Buckets of distances: half for each direction, of which half hold one distance each, the
    others ranges that widen up to `farthest` (Raffel et al. 2020, section 2.1)."""
    half, exact = buckets // 2, buckets // 4
    far = distance.abs().clamp(min=exact)
    scale = (half - exact) / math.log(farthest / exact)
    wide = exact + (torch.log(far.float() / exact) * scale).long()
    near = torch.where(distance.abs() < exact, distance.abs(), wide.clamp(max=half - 1))
    return near + (distance > 0).long() * half
