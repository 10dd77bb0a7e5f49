"""INT4 weights in groups; see `hardware.formats.int4_weights` for their choice."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from hardware.formats.int4_weights import INT4_MAX, INT4_MIN, SHRINKS, Int4Quantizer
from hardware.formats.integer import INT8_MAX
from hardware.formats.scheme import QuantScheme
from supernets.layers.twins.rounding import (
    groups_of,
    nonzero,
    peaks,
    row_scale,
    straight_through,
)
from supernets.layers.twins.twin import IntegerTwin, Rounding


class _Int4(IntegerTwin):
    def largest(self, scheme: QuantScheme) -> int:
        return Int4Quantizer(scheme.group_size, scheme.reduce_range).largest

    def rounded(self, weight: Tensor, scheme: QuantScheme) -> Tensor:
        most = Int4Quantizer(scheme.group_size, scheme.reduce_range).multiplier_max
        grouped = groups_of(weight, scheme.group_size)
        scale = row_scale(weight, self.largest(scheme))[..., None]
        scaled, ideal = grouped / scale, peaks(grouped) / scale / INT4_MIN
        tried = ((ideal * shrink).round().clamp(-most, most) for shrink in SHRINKS)
        decoded = _least_error(scaled, tried) * scale
        return decoded.flatten(1)[:, : weight.shape[1]]

    def linear_operands(self, x: Tensor, weight: Tensor, how: Rounding) -> tuple[Tensor, Tensor]:
        if not how.scheme.blocks:
            return self.operands(x, weight, how)
        blocks = block_weight(weight.detach(), how.scheme.group_size)
        return block_activation(x, how.scheme.group_size), straight_through(weight, blocks)


def block_weight(weight: Tensor, group_size: int | None) -> Tensor:
    """MatMulNBits: one floating scale per group, chosen by squared error."""
    grouped = groups_of(weight, group_size)
    tried = (peaks(grouped) * shrink / INT4_MIN for shrink in SHRINKS)
    return _least_error(grouped, tried).flatten(1)[:, : weight.shape[1]]


def block_activation(x: Tensor, group_size: int | None) -> Tensor:
    """MatMulNBits at accuracy level 4: symmetric INT8, one scale per row and group."""
    grouped = groups_of(x.detach(), group_size)
    scale = nonzero(grouped.abs().amax(-1, keepdim=True)) / INT8_MAX
    rounded = ((grouped / scale).round() * scale).flatten(-2)[..., : x.shape[-1]]
    return straight_through(x, rounded)


def _least_error(weight: Tensor, tried: Iterable[Tensor]) -> Tensor:
    """Groups `(out, groups, group)` rounded to INT4 values of a step size `(out, groups, 1)`, for
    each group that of those tried with the least squared error."""
    best = torch.ones_like(weight[..., :1])
    least = torch.full_like(best, torch.inf)
    for step in map(nonzero, tried):
        error = _round(weight, step).sub_(weight).square_().sum(-1, keepdim=True)
        best = torch.where(error < least, step, best)
        least = torch.minimum(error, least)
    return _round(weight, best)


def _round(weight: Tensor, step: Tensor) -> Tensor:
    return (weight / step).round_().clamp_(INT4_MIN, INT4_MAX).mul_(step)


TWIN = _Int4()
