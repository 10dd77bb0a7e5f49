"""Rounding in which later weights of a row make up for the errors of those before them.

A row w of a layer is stored as q; of inputs with the moments H = E[x x^T] the output then misses
(w - q) H (w - q)^T. Moments are taken apart, H = L D L^T with ones on the diagonal of the lower
triangle L, and inputs are rounded from the last to the first, each weight with what those behind it
missed added, t_j = w_j + sum_k>j (w_k - q_k) L_kj. What the output misses is then the sum of
D_j (t_j - q_j)^2. Frantar et al. 2023, "OPTQ"; in this form Chee et al. 2023, "QuIP", section 3.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from hardware.formats.weight_memo import Floats, grouped, groups_of

DAMPING = 0.01
"""Added to every input's moment, relative to their mean: what few samples say is not all."""
BLOCK = 32
"""Inputs rounded between two products with all that is rounded already."""


class GroupQuantizer(Protocol):
    """Quantizes groups of a row by steps of their own; None: one group per row."""

    @property
    def group_size(self) -> int | None:
        """Inputs that share a step."""

    def levels(self, matrix: Floats) -> Floats:
        """Values that weights of each group can have, ascending, (out, groups, values): of steps
        that are found again in a matrix of such values whose groups kept their largest weights."""

    def decoded(self, matrix: Floats) -> Floats:
        """What a quantized matrix (out, in) computes with."""


class Rounded(NamedTuple):
    """Weights (out, in) that quantizing leaves as they are."""

    values: Floats


@dataclass(frozen=True)
class FeedbackQuantizer:
    """Rounds a matrix for a quantizer, by the moments (in, in) of its inputs.

    Every row on its own; one that nearest values serve better stays as it was.
    """

    quantizer: GroupQuantizer
    moments: Floats = field(compare=False, repr=False)

    def quantize(self, matrix: Floats) -> Rounded:
        """From a matrix (out, in)."""
        _, group = groups_of(matrix, self.quantizer.group_size)
        fed = rounded(matrix, self.moments, self.quantizer.levels(matrix), group)
        nearest, found = (
            missed(matrix - self.quantizer.decoded(w), self.moments) for w in (matrix, fed)
        )
        return Rounded(np.where((found < nearest)[:, None], fed, matrix))

    def like(self, matrix: Floats) -> Rounded:
        """Shapes only."""
        return Rounded(matrix)


def missed(errors: Floats, moments: Floats) -> NDArray[np.float64]:
    """Mean square of what errors (out, in) of weights do to each output, (out,)."""
    wide = errors.astype(np.float64)
    found: NDArray[np.float64] = np.einsum("oi,oi->o", wide @ moments.astype(np.float64), wide)
    return found


def rounded(matrix: Floats, moments: Floats, levels: Floats, group: int) -> Floats:
    """A matrix (out, in) in values of `levels` (out, groups, values), `group` inputs in each.

    The inputs that vary most are rounded first. The largest weight of a group is kept at the end of
    its levels, so that its step can be told from it.
    """
    order = np.argsort(np.diag(moments), kind="stable")
    factor, grid = unit_lower(moments[np.ix_(order, order)]), _Grid(matrix, levels, group)
    weights = np.ascontiguousarray(matrix.T[order])  # (in, out)
    errors = np.zeros_like(weights)
    for end in range(len(order), 0, -BLOCK):
        start = max(0, end - BLOCK)
        targets = weights[start:end] + factor[end:, start:end].T @ errors[end:]
        for j in range(end - 1, start - 1, -1):
            target = targets[j - start] + factor[j + 1 : end, j] @ errors[j + 1 : end]
            errors[j] = weights[j] - grid.nearest(target, int(order[j]))
    found = np.empty_like(matrix)
    found[:, order] = (weights - errors).T
    return found


def unit_lower(moments: Floats) -> Floats:
    """L of damped moments, with ones on its diagonal."""
    diagonal = np.diag(moments).astype(np.float64)
    added = DAMPING * diagonal.mean() + (diagonal == 0)
    factor = np.linalg.cholesky(moments + np.diag(added))
    unit: Floats = (factor / np.diag(factor)).astype(np.float32)
    return unit


class _Grid:
    """The values that every weight of a matrix can be rounded to."""

    def __init__(self, matrix: Floats, levels: Floats, group: int) -> None:
        self.levels = np.ascontiguousarray(levels.transpose(1, 2, 0))  # (groups, values, out)
        self.middles = (self.levels[:, 1:] + self.levels[:, :-1]) / np.float32(2)
        self.group, size = group, np.abs(grouped(matrix, len(self.levels), group))
        low, high = self.levels[:, 0], self.levels[:, -1]
        self.ends = np.where(np.abs(low) > np.abs(high), low, high)  # (groups, out)
        reaches = np.abs(self.ends) / 2 < size.max(-1).T  # not where steps can be no smaller
        self.largest = np.where(reaches, size.argmax(-1).T, group)

    def nearest(self, weights: Floats, column: int) -> Floats:
        """Weights (out,) of one input, rounded."""
        group, place = divmod(column, self.group)
        numbers = (weights > self.middles[group]).sum(0)
        values = np.take_along_axis(self.levels[group], numbers[None], 0)[0]
        kept: Floats = np.where(self.largest[group] == place, self.ends[group], values)
        return kept
