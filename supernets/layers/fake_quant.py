"""Layers in low precision as ONNX Runtime computes them, in torch and differentiable.

Every function rounds as the format's layer writers have the kernels round; see `twins`. Gradients
pass through rounding unchanged.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from hardware.formats.format import Format
from hardware.formats.scheme import QuantScheme
from supernets.layers.twins.fixed_levels import FixedLevels
from supernets.layers.twins.rounding import Range
from supernets.layers.twins.twin import Rounding, twin_of

Stride = int | tuple[int, int]


def linear(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    precision: Format,
    scheme: QuantScheme,
    x_range: Range | None = None,
    served: int | None = None,
    levels: FixedLevels | None = None,
) -> Tensor:
    """x @ weight.T + bias as the exported layer computes it; see `Rounding`."""
    how = Rounding(scheme, x_range, served, levels)
    return F.linear(*twin_of(precision).linear_operands(x, weight, how), bias)


def conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    precision: Format,
    scheme: QuantScheme,
    x_range: Range | None = None,
    *,
    stride: Stride = 1,
    padding: Stride = 0,
    groups: int = 1,
    levels: FixedLevels | None = None,
) -> Tensor:
    """Two-dimensional convolution as the exported layer computes it; INT4 multipliers are shared
    along the flattened input channels and kernel positions of an output channel."""
    twin, matrix, how = (
        twin_of(precision),
        weight.flatten(1),
        Rounding(scheme, x_range, levels=levels),
    )
    if bias is not None:
        bias = twin.conv_bias(bias, x, matrix, how)
    x, matrix = twin.operands(x, matrix, how)
    return convolved(x, matrix.view_as(weight), bias, stride, padding, groups)


def convolved(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: Stride, padding: Stride, groups: int
) -> Tensor:
    """`F.conv2d`, whose kernels of one pixel are only given the pixels that they do not skip.

    The gradient of skipping kernels damages memory where channels lie last: 8 or 12 of them, images
    of 112 pixels and more (torch 2.13 on x86).
    """
    if weight.shape[-2:] == (1, 1) and padding in (0, (0, 0)):
        rows, columns = (stride, stride) if isinstance(stride, int) else stride
        x, stride = x[..., ::rows, ::columns], 1
    return F.conv2d(x, weight, bias, stride, padding, groups=groups)


def embedding(
    ids: Tensor,
    weight: Tensor,
    precision: Format,
    scheme: QuantScheme,
    levels: FixedLevels | None = None,
    sparse: bool = False,
) -> Tensor:
    """Look up rows of a table `(vocabulary, width)`; each row is quantized on its own.

    sparse: whether the table's gradient is one of the rows that were looked up.
    """
    rows = F.embedding(ids, weight, sparse=sparse)
    how = Rounding(scheme, levels=levels and levels.of_rows(ids.flatten()))
    return twin_of(precision).weight(rows.flatten(0, -2), how).view_as(rows)
