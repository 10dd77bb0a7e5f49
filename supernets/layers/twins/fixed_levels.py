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


@dataclass(frozen=True)
class FixedLevels:
    """Rounds a matrix `(out, in)` to the levels that its rounded weights had before training.

    A row's levels are parts of its largest weight and follow it. The largest weight of every group
    keeps its level, the last one, so that formats find all levels again in what was trained. Steps
    that are chosen anew for moving weights serve no better, and take ten times as many operations
    (benchmarks/README.md, "Rounding").

    group: inputs in each. largest: place of the largest weight in a row `(out, 1)`. levels: `(out,
    groups, values)`, ascending, with the middles between them. places: of the largest weight in
    every group `(out, groups, 1)`, with the level that it keeps.
    """

    group: int
    largest: Tensor
    levels: Tensor
    middles: Tensor
    places: Tensor
    kept: Tensor

    @classmethod
    def of(cls, values: Floats, quantizer: GroupQuantizer) -> Self:
        """From rounded weights `(out, in)`, and what they are stored by."""
        matrix = torch.from_numpy(values)
        _, group = groups_in(values, quantizer.group_size)
        largest = matrix.abs().argmax(1, keepdim=True)
        scale = nonzero(matrix.gather(1, largest))
        levels, _ = (torch.from_numpy(quantizer.levels(values)) / scale[..., None]).sort(-1)
        middles = (levels[..., 1:] + levels[..., :-1]) / 2
        grouped = groups_of(matrix / scale, group)
        places = grouped.abs().argmax(-1, keepdim=True)
        kept = _nearest(grouped.gather(-1, places), levels, middles)
        return cls(group, largest, levels, middles, places, kept)

    def to(self, device: torch.device) -> Self:
        """On a device."""
        return self._each(lambda tensor: tensor.to(device))

    def of_rows(self, numbers: Tensor) -> Self:
        """Of these rows `(n,)`."""
        return self._each(lambda tensor: tensor[numbers])

    def _each(self, change: Callable[[Tensor], Tensor]) -> Self:
        tensors = self.largest, self.levels, self.middles, self.places, self.kept
        return type(self)(self.group, *map(change, tensors))

    def __call__(self, matrix: Tensor) -> Tensor:
        """The rounded matrix, with a gradient."""
        return straight_through(matrix, self._rounded(matrix.detach()))

    def _rounded(self, matrix: Tensor) -> Tensor:
        scale = nonzero(matrix.gather(1, self.largest))
        grouped = groups_of(matrix / scale, self.group)
        values = _nearest(grouped, self.levels, self.middles).scatter_(-1, self.places, self.kept)
        return values.flatten(1)[:, : matrix.shape[1]] * scale


def _nearest(grouped: Tensor, levels: Tensor, middles: Tensor) -> Tensor:
    return levels.gather(-1, torch.searchsorted(middles, grouped))
