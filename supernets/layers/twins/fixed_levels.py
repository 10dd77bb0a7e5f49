"""Levels of few-bit weights that stay as they are while the weights are trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from hardware.formats.error_feedback import GroupQuantizer
from hardware.formats.weight_memo import Floats, groups_of
from supernets.layers.twins import rounding
from supernets.layers.twins.rounding import nonzero


@dataclass(frozen=True)
class FixedLevels:
    """Rounds a matrix `(out, in)` to the levels that its rounded weights had before training.

    Steps found anew from moving weights would turn the codes of whole groups over. Here a row's
    levels are parts of its largest weight, and follow it as that is trained: its gradient is that
    of the steps (Esser et al. 2020, "Learned Step Size Quantization", equation 3). The largest
    weight of every group keeps its level, the last one, so that formats find the steps again.

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
        _, group = groups_of(values, quantizer.group_size)
        largest = matrix.abs().argmax(1, keepdim=True)
        scale = nonzero(matrix.gather(1, largest))
        levels, _ = (torch.from_numpy(quantizer.levels(values)) / scale[..., None]).sort(-1)
        middles = (levels[..., 1:] + levels[..., :-1]) / 2
        grouped = rounding.groups_of(matrix / scale, group)
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
        rounded: Tensor = _Rounded.apply(matrix, self)  # type: ignore[no-untyped-call] # torch's
        return rounded


def _nearest(grouped: Tensor, levels: Tensor, middles: Tensor) -> Tensor:
    return levels.gather(-1, torch.searchsorted(middles, grouped))


class _Rounded(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, matrix: Tensor, to: FixedLevels) -> Tensor:
        scale = nonzero(matrix.gather(1, to.largest))
        grouped = rounding.groups_of(matrix / scale, to.group)
        values = _nearest(grouped, to.levels, to.middles).scatter_(-1, to.places, to.kept)
        beyond = values - grouped.scatter_(-1, to.places, 0)
        columns = matrix.shape[1]
        ctx.save_for_backward(to.largest, beyond.flatten(1)[:, :columns])
        return values.flatten(1)[:, :columns] * scale

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        largest, beyond = ctx.saved_tensors
        of_steps = (gradient * beyond).sum(1, keepdim=True)
        return gradient.scatter(1, largest, of_steps), None
