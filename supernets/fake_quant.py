"""ONNX Runtime's low-precision arithmetic in torch, differentiable straight through.

Every function rounds as the kernels of `hardware.kernels` do: the same scales, the same groups, the
same order of operations in FP32, half to even. Gradients pass through rounding unchanged.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from hardware.precision import Precision, QuantScheme

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
) -> Tensor:
    """x @ weight.T + bias as the exported layer computes it.

    `x_range` is the calibrated range of static activations; without it the range is that of `x`,
    all batch entries together, as dynamic quantization takes it.
    """
    if precision == Precision.INT4 and scheme.int4_kernel == "matmulnbits":
        x = block_activation(x, scheme.group_size)
    elif precision in (Precision.INT8, Precision.INT4):
        x = activation(x, x_range, symmetric=scheme.linear == "qdq")
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
    input channels and kernel positions of an output channel."""
    if precision in (Precision.INT8, Precision.INT4):
        x = activation(x, x_range, symmetric=scheme.linear == "qdq")
    matrix = quantized_weight(weight.flatten(1), precision, scheme)
    return F.conv2d(x, matrix.view_as(weight), bias, stride, padding)


def embedding(ids: Tensor, weight: Tensor, precision: Precision, scheme: QuantScheme) -> Tensor:
    """Look up rows of a table `(vocabulary, width)`; each row is quantized on its own."""
    rows = F.embedding(ids, weight)
    return quantized_weight(rows.flatten(0, -2), precision, scheme).view_as(rows)


def activation(x: Tensor, x_range: Range | None = None, *, symmetric: bool = False) -> Tensor:
    """Round to the 256 steps of an unsigned range that holds zero, or to signed ones around it."""
    detached = x.detach()
    low, high = detached.aminmax() if x_range is None else detached.new_tensor(x_range)
    if symmetric:
        scale = _nonzero(torch.maximum(low.abs(), high.abs()) / INT8_MAX)
        return _straight_through(x, (detached / scale).round().clamp(-128, 127) * scale)
    low, high = low.clamp(max=0), high.clamp(min=0)
    scale = _nonzero((high - low) / UINT8_MAX)
    zero_point = (-low / scale).clamp(0, UINT8_MAX).round()
    steps = ((detached / scale).round() + zero_point).clamp(0, UINT8_MAX)
    return _straight_through(x, (steps - zero_point) * scale)


def quantized_weight(weight: Tensor, precision: Precision, scheme: QuantScheme) -> Tensor:
    """A weight matrix `(out, in)` rounded to `precision`, every row on its own."""
    if precision == Precision.FP32:
        return weight
    if precision == Precision.FP16:
        return _straight_through(weight, weight.detach().half().to(weight.dtype))
    if precision == Precision.INT8:
        return _straight_through(weight, int8_weight(weight.detach(), scheme.reduce_range))
    return _straight_through(weight, _int4_rounding(weight.detach(), scheme))


def int8_weight(weight: Tensor, reduce_range: bool = False) -> Tensor:
    """Symmetric, one scale per row."""
    most = INT8_MAX_REDUCED if reduce_range else INT8_MAX
    scale = _nonzero(weight.abs().amax(1, keepdim=True)) / most
    return (weight / scale).round() * scale


def int4_weight(weight: Tensor, group_size: int | None, reduce_range: bool = False) -> Tensor:
    """Groups with integer multipliers chosen by squared error; see `hardware.quantize`."""
    most = MULTIPLIER_MAX_REDUCED if reduce_range else MULTIPLIER_MAX
    group = group_size or weight.shape[1]
    padding = -weight.shape[1] % group
    grouped = F.pad(weight, (0, padding)).unflatten(1, (-1, group))
    peak = grouped.gather(-1, grouped.abs().argmax(-1, keepdim=True))
    scale = _nonzero(peak.abs().amax(1, keepdim=True)) / (-INT4_MIN * most)
    scaled, ideal = grouped / scale, peak / scale / INT4_MIN
    best, error = torch.zeros_like(scaled), torch.full_like(ideal, torch.inf)
    for shrink in SHRINKS:
        multiplier = (ideal * shrink).round().clamp(-most, most)
        multiplier = _nonzero(multiplier)
        tried = (scaled / multiplier).round().clamp(INT4_MIN, INT4_MAX) * multiplier
        tried_error = (scaled - tried).square().sum(-1, keepdim=True)
        best = torch.where(tried_error < error, tried, best)
        error = torch.minimum(tried_error, error)
    return (best * scale).flatten(1)[:, : weight.shape[1]]


def block_int4_weight(weight: Tensor, group_size: int | None) -> Tensor:
    """MatMulNBits: one floating scale per group, chosen by squared error."""
    group = group_size or weight.shape[1]
    grouped = F.pad(weight, (0, -weight.shape[1] % group)).unflatten(1, (-1, group))
    peak = grouped.gather(-1, grouped.abs().argmax(-1, keepdim=True))
    best, error = torch.zeros_like(grouped), torch.full_like(peak, torch.inf)
    for shrink in SHRINKS:
        scale = _nonzero(peak * shrink / INT4_MIN)
        tried = (grouped / scale).round().clamp(INT4_MIN, INT4_MAX) * scale
        tried_error = (grouped - tried).square().sum(-1, keepdim=True)
        best = torch.where(tried_error < error, tried, best)
        error = torch.minimum(tried_error, error)
    return best.flatten(1)[:, : weight.shape[1]]


def block_activation(x: Tensor, group_size: int | None) -> Tensor:
    """MatMulNBits at accuracy level 4: symmetric INT8, one scale per row and group."""
    group = group_size or x.shape[-1]
    grouped = F.pad(x.detach(), (0, -x.shape[-1] % group)).unflatten(-1, (-1, group))
    scale = _nonzero(grouped.abs().amax(-1, keepdim=True)) / INT8_MAX
    rounded = ((grouped / scale).round() * scale).flatten(-2)[..., : x.shape[-1]]
    return _straight_through(x, rounded)


def _int4_rounding(weight: Tensor, scheme: QuantScheme) -> Tensor:
    if scheme.int4_kernel == "matmulnbits":
        return block_int4_weight(weight, scheme.group_size)
    return int4_weight(weight, scheme.group_size, scheme.reduce_range)


def _straight_through(x: Tensor, rounded: Tensor) -> Tensor:
    """The value of `rounded` with the gradient of `x`."""
    return x + (rounded - x).detach()


def _nonzero(x: Tensor) -> Tensor:
    return torch.where(x == 0, torch.ones_like(x), x)
