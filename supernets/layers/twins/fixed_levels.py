"""Levels of few-bit weights that stay as they are while the weights are trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from hardware.formats.error_feedback import GroupQuantizer
from hardware.formats.weight_memo import Floats
from hardware.formats.weight_memo import groups_of as groups_in
from supernets.layers.twins.rounding import groups_of, nonzero, straight_through

Change = Callable[[Tensor], Tensor]
EVEN = 1e-4
"""Part of a step by which levels of one step differ at most, which were multiplied in FP32."""


@dataclass(frozen=True)
class Even:
    """Levels `least .. most` times the signed step of each group `(out, groups, 1)`."""

    step: Tensor
    least: float
    most: float

    @classmethod
    def of(cls, levels: Tensor) -> Self | None:
        """From ascending levels `(out, groups, values)`; None if they are not spaced evenly."""
        steps = levels.diff(dim=-1)
        step = steps.mean(-1, keepdim=True)
        first = (levels[..., :1] / step).round()
        even = (steps - step).abs() <= EVEN * step
        if not even.all() or len(first.unique()) > 2:
            return None
        least, most = first.min().item(), first.min().item() + steps.shape[-1]
        mirrored = first != least  # under a negative largest weight
        return cls(torch.where(mirrored, -step, step), least, most)

    def nearest(self, grouped: Tensor) -> Tensor:
        """Of every weight `(out, groups, group)`."""
        return (grouped / self.step).round_().clamp_(self.least, self.most).mul_(self.step)

    def each(self, change: Change) -> Self:
        """With other tensors."""
        return type(self)(change(self.step), self.least, self.most)


@dataclass(frozen=True)
class Uneven:
    """Ascending levels `(out, groups, values)` and the middles between them."""

    levels: Tensor
    middles: Tensor

    @classmethod
    def of(cls, levels: Tensor) -> Self:
        """From the levels alone."""
        return cls(levels, (levels[..., 1:] + levels[..., :-1]) / 2)

    def nearest(self, grouped: Tensor) -> Tensor:
        """Of every weight `(out, groups, group)`."""
        if grouped.is_cuda:  # in two launches
            return self.levels.gather(-1, torch.searchsorted(self.middles, grouped))
        # Level after level, in sums of floats that CPUs take many of at once: a third of the time.
        first, *higher = self.levels.split(1, -1)
        values: Tensor = first.expand_as(grouped).contiguous()
        for middle, level in zip(self.middles.split(1, -1), higher, strict=True):
            above = (grouped - middle).sign_().clamp_min_(0)
            values.lerp_(level.expand_as(values), above)
        return values

    def each(self, change: Change) -> Self:
        """With other tensors."""
        return type(self)(change(self.levels), change(self.middles))


@dataclass(frozen=True)
class FixedLevels:
    """Rounds a matrix `(out, in)` to the levels that its rounded weights had before training.

    A row's levels are parts of its largest weight and follow it. The largest weight of every group
    keeps its level, the last one, so that formats find all levels again in what was trained. Steps
    that are chosen anew for moving weights serve no better, and take ten times as many operations
    (benchmarks/README.md, "Rounding").

    group: inputs in each. largest: place of the largest weight in a row `(out, 1)`. levels: those
    of every group `(out, groups, ...)`. places: of the largest weight in every group `(out, groups,
    1)`, with the level that it keeps.
    """

    group: int
    largest: Tensor
    levels: Even | Uneven
    places: Tensor
    kept: Tensor

    @classmethod
    def of(cls, values: Floats, quantizer: GroupQuantizer) -> Self:
        """From rounded weights `(out, in)`, and what they are stored by."""
        matrix = torch.from_numpy(values)
        _, group = groups_in(values, quantizer.group_size)
        largest = matrix.abs().argmax(1, keepdim=True)
        scale = nonzero(matrix.gather(1, largest))
        sorted_levels, _ = (torch.from_numpy(quantizer.levels(values)) / scale[..., None]).sort(-1)
        levels = Even.of(sorted_levels) or Uneven.of(sorted_levels)
        grouped = groups_of(matrix / scale, group)
        places = grouped.abs().argmax(-1, keepdim=True)
        kept = levels.nearest(grouped).gather(-1, places)
        return cls(group, largest, levels, places, kept)

    def to(self, device: torch.device) -> Self:
        """On a device."""
        return self._each(lambda tensor: tensor.to(device))

    def of_rows(self, numbers: Tensor) -> Self:
        """Of these rows `(n,)`."""
        return self._each(lambda tensor: tensor[numbers])

    def _each(self, change: Change) -> Self:
        largest, places, kept = map(change, (self.largest, self.places, self.kept))
        return type(self)(self.group, largest, self.levels.each(change), places, kept)

    def __call__(self, matrix: Tensor) -> Tensor:
        """The rounded matrix, with a gradient."""
        return straight_through(matrix, self._rounded(matrix.detach()))

    def _rounded(self, matrix: Tensor) -> Tensor:
        scale = nonzero(matrix.gather(1, self.largest))
        grouped = groups_of(matrix / scale, self.group)
        values = self.levels.nearest(grouped).scatter_(-1, self.places, self.kept)
        return values.flatten(1)[:, : matrix.shape[1]] * scale
