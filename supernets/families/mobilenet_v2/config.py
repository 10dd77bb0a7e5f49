"""Sizes of a MobileNetV2."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, Self

from pydantic import Field

from supernets.families.inverted_residual.sizes import (
    BlockPlan,
    Convolution,
    InvertedResidualSizes,
    divisible,
    same_pads,
)
from supernets.families.sizes import Size
from supernets.space.space import Architecture

STAGES = ((24, 2, 2), (32, 3, 2), (64, 4, 2), (96, 3, 1), (160, 3, 2), (320, 1, 1))
"""Channels, blocks and stride of every stage (Sandler et al. 2018, table 2)."""
STEM, FIRST, TOP = 32, 16, 1280


class MobileNetV2Config(InvertedResidualSizes):
    """Sizes of a MobileNetV2; its blocks are those of the paper, their widths vary."""

    family: Literal["mobilenet_v2"] = "mobilenet_v2"
    width_multiplier: float = Field(1.0, gt=0, le=64, description="Widths as parts of the paper's.")
    width_divisor: Size = Field(8, description="Widths are multiples of it.")
    least_width: Size = Field(8, description="No layer has fewer channels.")
    expansion: float = Field(
        6.0, gt=0, le=64, description="Channels inside a block, as parts of those before it."
    )
    first_block_expands: bool = Field(
        False, description="Whether the first block has a convolution that widens."
    )
    wide_top: bool = Field(
        True, description="The last convolution keeps 1280 channels where others have fewer."
    )
    tf_padding: bool = Field(
        True, description="Images are padded as TensorFlow does, where odd behind the pixels."
    )
    batch_norm_eps: float = Field(1e-3, gt=0, description="Added to the variance in BatchNorm.")

    @property
    def depths(self) -> tuple[int, ...]:
        """Blocks per stage."""
        return tuple(depth for _, depth, _ in STAGES)

    @property
    def stem(self) -> Convolution:
        """The first convolution."""
        return self._convolution(self.image_size, 2)

    @property
    def stem_width(self) -> int:
        """Channels after the first convolution."""
        return self._width(STEM)

    @property
    def top_width(self) -> int:
        """Channels after the last convolution."""
        return TOP if self.wide_top and self.width_multiplier < 1 else self._width(TOP)

    def shrunk(self, architecture: Architecture) -> Self:
        """The same: what sub-networks differ in, config.json has no fields for."""
        return self

    def _width(self, channels: int) -> int:
        scaled = round(channels * self.width_multiplier)
        return divisible(scaled, self.width_divisor, self.least_width)

    def _convolution(self, side: int, stride: int) -> Convolution:
        pads = same_pads(side, 3, stride) if self.tf_padding else (1, 1)
        return Convolution(3, stride, pads, side)

    def _plan(self) -> Iterator[BlockPlan]:
        width, side = self._width(FIRST), self.stem.out_side
        yield BlockPlan(
            name="first",
            depthwise=self._convolution(side, 1),
            in_width=self.stem_width,
            inner_width=self.stem_width,
            out_width=width,
            expands=self.first_block_expands,
            squeezed=0,
            residual=False,
        )
        number = 0
        for channels, depth, first_stride in STAGES:
            for index in range(depth):
                stride, before, width = 1 if index else first_stride, width, self._width(channels)
                inner = round(before * self.expansion)
                depthwise = self._convolution(side, stride)
                yield BlockPlan(
                    name=str(number),
                    depthwise=depthwise,
                    in_width=before,
                    inner_width=divisible(inner, self.width_divisor, self.least_width),
                    out_width=width,
                    expands=True,
                    squeezed=0,
                    residual=stride == 1 and before == width,
                )
                number, side = number + 1, depthwise.out_side
