"""Sizes of networks of inverted residual blocks; free of torch.

After Sandler et al. 2018, "MobileNetV2": narrow between the blocks, wide inside them.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Self

from pydantic import model_validator

from supernets.families.sizes import ImageSizes

Pads = tuple[int, int]
"""Zeros before and behind the pixels, along height and width alike."""


def divisible(width: float, divisor: int, least: int) -> int:
    """The multiple of `divisor` nearest to a width, not below nine tenths of it, nor `least`."""
    rounded = max(least, int(width + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * width else rounded


def same_pads(side: int, kernel: int, stride: int) -> Pads:
    """TensorFlow's `SAME`: the output has `side / stride` pixels, an odd zero is behind them."""
    total = max(kernel - (side % stride or stride), 0)
    return total // 2, total - total // 2


@dataclass(frozen=True)
class Convolution:
    """A convolution over a square image."""

    kernel: int
    stride: int
    pads: Pads
    side: int

    @property
    def out_side(self) -> int:
        """Height and width of what it puts out."""
        return (self.side + sum(self.pads) - self.kernel) // self.stride + 1


@dataclass(frozen=True)
class BlockPlan:
    """One block: its name, what its depthwise convolution does, and its widths.

    expands: whether a convolution widens it inside; else `inner_width` is `in_width`.
    squeezed: channels of its squeeze-and-excitation, 0 without one.
    """

    name: str
    depthwise: Convolution
    in_width: int
    inner_width: int
    out_width: int
    expands: bool
    squeezed: int
    residual: bool

    @property
    def path(self) -> str:
        """Module path."""
        return f"blocks.{self.name}"


class InvertedResidualSizes(ImageSizes):
    """Sizes of a network of inverted residual blocks."""

    batch_norm_eps: float

    @property
    @abstractmethod
    def stem(self) -> Convolution:
        """The first convolution."""

    @property
    @abstractmethod
    def stem_width(self) -> int:
        """Channels after the first convolution."""

    @property
    @abstractmethod
    def top_width(self) -> int:
        """Channels after the last convolution."""

    @abstractmethod
    def _plan(self) -> Iterator[BlockPlan]:
        """The blocks in order."""

    @cached_property
    def plan(self) -> tuple[BlockPlan, ...]:
        """The blocks in order; those that can be dropped are called by their numbers."""
        return tuple(self._plan())

    @property
    def elastic_inner_widths(self) -> dict[str, int]:
        """Block -> channels inside it, of those that widen."""
        return {block.path: block.inner_width for block in self.plan if block.expands}

    @model_validator(mode="after")
    def _pixels_are_left(self) -> Self:
        if min(block.depthwise.out_side for block in self.plan) < 1:
            raise ValueError(
                f"image_size {self.image_size} leaves no pixel for the last block; give a larger "
                "one"
            )
        return self
