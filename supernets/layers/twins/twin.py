"""What a format computes, imitated in torch: one twin per format, in the module of its name."""

from __future__ import annotations

from abc import abstractmethod
from importlib import import_module
from typing import NamedTuple

from torch import Tensor

from hardware.formats.format import Format
from hardware.formats.int8 import Int8Quantizer
from hardware.formats.scheme import QuantScheme
from supernets.layers.twins.fixed_levels import FixedLevels
from supernets.layers.twins.rounding import Range, activation, row_scale, steps, straight_through


class Rounding(NamedTuple):
    """How a layer's kernel rounds.

    x_range: the calibrated range of its input; None: that of every `served` batch entries together,
    of all if that is None, as dynamic quantization takes it. levels: those that its weights keep in
    training.
    """

    scheme: QuantScheme
    x_range: Range | None = None
    served: int | None = None
    levels: FixedLevels | None = None

    @property
    def symmetric(self) -> bool:
        """Whether activations are rounded to signed steps around zero."""
        return self.scheme.linear == "qdq"


class Twin:
    """A format whose products are taken in floats: its weights alone are rounded."""

    @abstractmethod
    def rounded(self, weight: Tensor, scheme: QuantScheme) -> Tensor:
        """A weight matrix `(out, in)` as the format stores it, every row on its own."""

    def weight(self, weight: Tensor, how: Rounding) -> Tensor:
        """The same, with a gradient."""
        if how.levels is not None:
            return how.levels(weight)
        return straight_through(weight, self.rounded(weight.detach(), how.scheme))

    def operands(self, x: Tensor, weight: Tensor, how: Rounding) -> tuple[Tensor, Tensor]:
        """Input and weight matrix as the kernel multiplies them; see `fake_quant.linear`."""
        return x, self.weight(weight, how)

    def linear_operands(self, x: Tensor, weight: Tensor, how: Rounding) -> tuple[Tensor, Tensor]:
        """The same of a linear layer, where it differs from a convolution's."""
        return self.operands(x, weight, how)

    def conv_bias(self, bias: Tensor, x: Tensor, weight: Tensor, how: Rounding) -> Tensor:
        """A convolution's bias as the kernel adds it."""
        return bias


class IntegerTwin(Twin):
    """A format whose products are taken in integers: activations are rounded too."""

    def largest(self, scheme: QuantScheme) -> int:
        """Integer that a row's largest weight becomes."""
        return Int8Quantizer(scheme.reduce_range).largest

    def operands(self, x: Tensor, weight: Tensor, how: Rounding) -> tuple[Tensor, Tensor]:
        x = activation(x, how.x_range, symmetric=how.symmetric, served=how.served)
        return x, self.weight(weight, how)

    def conv_bias(self, bias: Tensor, x: Tensor, weight: Tensor, how: Rounding) -> Tensor:
        """The kernel adds the bias to integer sums, so it is rounded to their step."""
        step, _ = steps(x.detach(), how.x_range, how.symmetric)
        step = step * row_scale(weight.detach(), self.largest(how.scheme))[:, 0]
        return straight_through(bias, (bias.detach() / step).round() * step)


def twin_of(precision: Format) -> Twin:
    """The twin of a format: `TWIN` of the module of its name beside this one."""
    twin: Twin = import_module(f"supernets.layers.twins.{precision.name}").TWIN
    return twin
