"""Rounding in torch as ONNX Runtime's kernels round, differentiable straight through.

The same scales, the same order of operations in FP32, half to even.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.nn import functional as F

from hardware.formats.integer import INT8_MAX

Range = tuple[float, float]

UINT8_MAX = 2 * INT8_MAX + 1


def activation(
    x: Tensor,
    x_range: Range | None = None,
    *,
    symmetric: bool = False,
    served: int | None = None,
) -> Tensor:
    """Round to the 256 steps of an unsigned range that holds zero, or to signed ones around it."""
    scale, zero_point = steps(x.detach(), x_range, symmetric, served)
    least = -INT8_MAX - 1 if symmetric else 0
    rounded = (x.detach() / scale).round_().add_(zero_point).clamp_(least, least + UINT8_MAX)
    return straight_through(x, rounded.sub_(zero_point).mul_(scale))


def steps(
    x: Tensor, x_range: Range | None, symmetric: bool, served: int | None = None
) -> tuple[Tensor, Tensor]:
    """Scale and zero point of a range, that of `x` if none is given."""
    low, high = extremes(x, served) if x_range is None else x.new_tensor(x_range)
    if symmetric:
        return nonzero(torch.maximum(low.abs(), high.abs()) / INT8_MAX), torch.zeros_like(low)
    low, high = low.clamp(max=0), high.clamp(min=0)
    scale = nonzero((high - low) / UINT8_MAX)
    return scale, (-low / scale).clamp(0, UINT8_MAX).round()


def extremes(x: Tensor, served: int | None) -> tuple[Tensor, Tensor]:
    """Smallest and largest value of every `served` batch entries, shaped to combine with `x`.

    The batch must hold a multiple of them; None takes it as a whole.
    """
    if served is None:
        low, high = x.aminmax()
        return low, high
    low, high = x.unflatten(0, (-1, served)).flatten(1).aminmax(dim=1)
    shape = (-1, *(1,) * (x.ndim - 1))
    return low.repeat_interleave(served).view(shape), high.repeat_interleave(served).view(shape)


def row_scale(weight: Tensor, largest: int) -> Tensor:
    """Step of every row `(out, 1)` that maps its largest weight to an integer."""
    return nonzero(weight.abs().amax(1, keepdim=True)) / largest


def groups_of(x: Tensor, group_size: int | None) -> Tensor:
    """`(..., in)` as `(..., groups, group)`, zeros at the end."""
    group = group_size or x.shape[-1]
    grouped: Tensor = F.pad(x, (0, -x.shape[-1] % group)).unflatten(-1, (-1, group))
    return grouped


def peaks(grouped: Tensor) -> Tensor:
    """The largest weight of every group, its sign kept, `(..., groups, 1)`."""
    return grouped.gather(-1, grouped.abs().argmax(-1, keepdim=True))


def straight_through(x: Tensor, rounded: Tensor) -> Tensor:
    """The value of `rounded` with the gradient of `x`."""
    straight: Tensor = _StraightThrough.apply(x, rounded)  # type: ignore[no-untyped-call] # torch's
    return straight


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(_: FunctionCtx, x: Tensor, rounded: Tensor) -> Tensor:
        return rounded

    @staticmethod
    def backward(_: FunctionCtx, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


def nonzero(x: Tensor) -> Tensor:
    """Ones in place of zeros, to divide by."""
    return torch.where(x == 0, 1, x)
