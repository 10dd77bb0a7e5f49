"""What a format computes, imitated in torch: one twin per format, in the module of its name."""

from __future__ import annotations

from abc import abstractmethod
from importlib import import_module

from torch import Tensor
from torch.nn import functional as F

from hardware.formats.format import Format
from hardware.formats.scheme import QuantScheme
from supernets.layers.twins.rounding import Range, activation, row_scale, steps, straight_through

Stride = int | tuple[int, int]


class Twin:
    """A format whose products are taken in floats: its weights alone are rounded."""

    @abstractmethod
    def rounded(self, weight: Tensor, scheme: QuantScheme) -> Tensor:
        """A weight matrix `(out, in)` as the format stores it, every row on its own."""

    def weight(self, weight: Tensor, scheme: QuantScheme) -> Tensor:
        """The same, with a gradient."""
        return straight_through(weight, self.rounded(weight.detach(), scheme))

    def linear(
        self,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        scheme: QuantScheme,
        x_range: Range | None,
        served: int | None,
    ) -> Tensor:
        """See `fake_quant.linear`."""
        return F.linear(x, self.weight(weight, scheme), bias)

    def conv2d(
        self,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        scheme: QuantScheme,
        x_range: Range | None,
        stride: Stride,
        padding: Stride,
        groups: int,
    ) -> Tensor:
        """See `fake_quant.conv2d`."""
        rounded = self.weight(weight.flatten(1), scheme).view_as(weight)
        return F.conv2d(x, rounded, bias, stride, padding, groups=groups)


class IntegerTwin(Twin):
    """A format whose products are taken in integers: activations are rounded too."""

    @abstractmethod
    def largest(self, scheme: QuantScheme) -> int:
        """Integer that a row's largest weight becomes."""

    def linear(
        self,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        scheme: QuantScheme,
        x_range: Range | None,
        served: int | None,
    ) -> Tensor:
        x = activation(x, x_range, symmetric=scheme.linear == "qdq", served=served)
        return super().linear(x, weight, bias, scheme, x_range, served)

    def conv2d(
        self,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        scheme: QuantScheme,
        x_range: Range | None,
        stride: Stride,
        padding: Stride,
        groups: int,
    ) -> Tensor:
        """The kernel adds the bias to integer sums, so it is rounded to their step."""
        symmetric = scheme.linear == "qdq"
        if bias is not None:
            step, _ = steps(x.detach(), x_range, symmetric)
            step = step * row_scale(weight.detach().flatten(1), self.largest(scheme))[:, 0]
            bias = straight_through(bias, (bias.detach() / step).round() * step)
        x = activation(x, x_range, symmetric=symmetric)
        return super().conv2d(x, weight, bias, scheme, x_range, stride, padding, groups)


def twin_of(precision: Format) -> Twin:
    """The twin of a format: `TWIN` of the module of its name beside this one."""
    twin: Twin = import_module(f"supernets.layers.twins.{precision.name}").TWIN
    return twin
