"""ONNX Runtime's low-precision arithmetic in torch, differentiable straight through.

Every function rounds as the kernels of `hardware.kernels` do: the same scales, the same groups, the
same order of operations in FP32, half to even. Gradients pass through rounding unchanged.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.nn import functional as F

from hardware.formats.precision import Precision, QuantScheme

Range = tuple[float, float]

INT8_MAX, INT8_MAX_REDUCED = 127, 63
UINT8_MAX = 255
INT4_MIN, INT4_MAX = -8, 7
MULTIPLIER_MAX, MULTIPLIER_MAX_REDUCED = 15, 7
SHRINKS = (1.1, 1.0, 0.9, 0.8, 0.7)
"""These equal the constants of `hardware.quantize`; tests hold them together."""


def linear(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    precision: Precision,
    scheme: QuantScheme,
    x_range: Range | None = None,
    served: int | None = None,
) -> Tensor:
    """x @ weight.T + bias as the exported layer computes it.

    `x_range` is the calibrated range of static activations; without it the range is that of every
    `served` batch entries together (all of them by default), as dynamic quantization takes it.
    """
    if precision == Precision.INT4 and scheme.int4_kernel == "matmulnbits":
        blocks = block_int4_weight(weight.detach(), scheme.group_size)
        x = block_activation(x, scheme.group_size)
        return F.linear(x, _straight_through(weight, blocks), bias)
    if precision in (Precision.INT8, Precision.INT4):
        x = activation(x, x_range, symmetric=scheme.linear == "qdq", served=served)
    return F.linear(x, quantized_weight(weight, precision, scheme), bias)


def conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    precision: Precision,
    scheme: QuantScheme,
    x_range: Range | None = None,
    *,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
) -> Tensor:
    """Two-dimensional convolution as the exported layer computes it; groups run over the flattened
    input channels and kernel positions of an output channel. The kernel adds the bias to integer
    sums, so it is rounded to their step."""
    matrix = weight.flatten(1)
    if precision in (Precision.INT8, Precision.INT4):
        symmetric = scheme.linear == "qdq"
        if bias is not None:
            step, _ = _steps(x.detach(), x_range, symmetric)
            step = step * _row_scale(matrix.detach(), _row_steps(precision, scheme))[:, 0]
            bias = _straight_through(bias, (bias.detach() / step).round() * step)
        x = activation(x, x_range, symmetric=symmetric)
    rounded = quantized_weight(matrix, precision, scheme)
    return F.conv2d(x, rounded.view_as(weight), bias, stride, padding)


def embedding(ids: Tensor, weight: Tensor, precision: Precision, scheme: QuantScheme) -> Tensor:
    """Look up rows of a table `(vocabulary, width)`; each row is quantized on its own."""
    rows = F.embedding(ids, weight)
    return quantized_weight(rows.flatten(0, -2), precision, scheme).view_as(rows)


def activation(
    x: Tensor,
    x_range: Range | None = None,
    *,
    symmetric: bool = False,
    served: int | None = None,
) -> Tensor:
    """Round to the 256 steps of an unsigned range that holds zero, or to signed ones around it."""
    scale, zero_point = _steps(x.detach(), x_range, symmetric, served)
    least = -INT8_MAX - 1 if symmetric else 0
    steps = (x.detach() / scale).round_().add_(zero_point).clamp_(least, least + UINT8_MAX)
    return _straight_through(x, steps.sub_(zero_point).mul_(scale))


def _steps(
    x: Tensor, x_range: Range | None, symmetric: bool, served: int | None = None
) -> tuple[Tensor, Tensor]:
    """Scale and zero point of a range, that of `x` if none is given."""
    low, high = extremes(x, served) if x_range is None else x.new_tensor(x_range)
    if symmetric:
        return _nonzero(torch.maximum(low.abs(), high.abs()) / INT8_MAX), torch.zeros_like(low)
    low, high = low.clamp(max=0), high.clamp(min=0)
    scale = _nonzero((high - low) / UINT8_MAX)
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


def quantized_weight(weight: Tensor, precision: Precision, scheme: QuantScheme) -> Tensor:
    """A weight matrix `(out, in)` rounded to `precision`, every row on its own."""
    if precision == Precision.FP32:
        return weight
    if precision == Precision.FP16:
        return _straight_through(weight, weight.detach().half().to(weight.dtype))
    if precision == Precision.INT8:
        return _straight_through(weight, int8_weight(weight.detach(), scheme.reduce_range))
    int4 = int4_weight(weight.detach(), scheme.group_size, scheme.reduce_range)
    return _straight_through(weight, int4)


def _row_steps(precision: Precision, scheme: QuantScheme) -> int:
    """Integer that a row's largest weight is mapped to."""
    if precision == Precision.INT8:
        return INT8_MAX_REDUCED if scheme.reduce_range else INT8_MAX
    return -INT4_MIN * (MULTIPLIER_MAX_REDUCED if scheme.reduce_range else MULTIPLIER_MAX)


def _row_scale(weight: Tensor, steps: int) -> Tensor:
    return _nonzero(weight.abs().amax(1, keepdim=True)) / steps


def int8_weight(weight: Tensor, reduce_range: bool = False) -> Tensor:
    """Symmetric, one scale per row."""
    scale = _row_scale(weight, INT8_MAX_REDUCED if reduce_range else INT8_MAX)
    return (weight / scale).round() * scale


def int4_weight(weight: Tensor, group_size: int | None, reduce_range: bool = False) -> Tensor:
    """Groups with integer multipliers chosen by squared error; see `hardware.quantize`."""
    most = MULTIPLIER_MAX_REDUCED if reduce_range else MULTIPLIER_MAX
    group = group_size or weight.shape[1]
    padding = -weight.shape[1] % group
    grouped = F.pad(weight, (0, padding)).unflatten(1, (-1, group))
    peak = grouped.gather(-1, grouped.abs().argmax(-1, keepdim=True))
    scale = _row_scale(weight, -INT4_MIN * most)[..., None]
    scaled, ideal = grouped / scale, peak / scale / INT4_MIN
    tried = ((ideal * shrink).round().clamp(-most, most) for shrink in SHRINKS)
    return (_least_error(scaled, tried) * scale).flatten(1)[:, : weight.shape[1]]


def block_int4_weight(weight: Tensor, group_size: int | None) -> Tensor:
    """MatMulNBits: one floating scale per group, chosen by squared error."""
    group = group_size or weight.shape[1]
    grouped = F.pad(weight, (0, -weight.shape[1] % group)).unflatten(1, (-1, group))
    peak = grouped.gather(-1, grouped.abs().argmax(-1, keepdim=True))
    tried = (peak * shrink / INT4_MIN for shrink in SHRINKS)
    return _least_error(grouped, tried).flatten(1)[:, : weight.shape[1]]


def _least_error(weight: Tensor, steps: Iterable[Tensor]) -> Tensor:
    """Groups `(out, groups, group)` rounded to INT4 values of a step size `(out, groups, 1)`, for
    each group that of those tried with the least squared error."""
    best = torch.ones_like(weight[..., :1])
    least = torch.full_like(best, torch.inf)
    for tried in map(_nonzero, steps):
        error = _round_int4(weight, tried).sub_(weight).square_().sum(-1, keepdim=True)
        best = torch.where(error < least, tried, best)
        least = torch.minimum(error, least)
    return _round_int4(weight, best)


def _round_int4(weight: Tensor, step: Tensor) -> Tensor:
    return (weight / step).round_().clamp_(INT4_MIN, INT4_MAX).mul_(step)


def block_activation(x: Tensor, group_size: int | None) -> Tensor:
    """MatMulNBits at accuracy level 4: symmetric INT8, one scale per row and group."""
    group = group_size or x.shape[-1]
    grouped = F.pad(x.detach(), (0, -x.shape[-1] % group)).unflatten(-1, (-1, group))
    scale = _nonzero(grouped.abs().amax(-1, keepdim=True)) / INT8_MAX
    rounded = ((grouped / scale).round() * scale).flatten(-2)[..., : x.shape[-1]]
    return _straight_through(x, rounded)


def _straight_through(x: Tensor, rounded: Tensor) -> Tensor:
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


def _nonzero(x: Tensor) -> Tensor:
    return torch.where(x == 0, torch.ones_like(x), x)
