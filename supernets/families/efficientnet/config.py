"""Sizes of an EfficientNet."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import Field

from supernets.families.inverted_residual.sizes import (
    BlockPlan,
    Convolution,
    InvertedResidualSizes,
    divisible,
)
from supernets.families.sizes import Depth, Size, StagedSizes

STEM, TOP = 32, 1280


class EfficientNetConfig(InvertedResidualSizes, StagedSizes):
    """Sizes of an EfficientNet (Tan and Le 2019, table 1); the lists have an entry per stage."""

    family: Literal["efficientnet"] = "efficientnet"
    per_stage: ClassVar[tuple[str, ...]] = (
        *("depths", "stage_widths", "strides", "kernels", "expansions"),
    )
    depths: tuple[Depth, ...] = Field((1, 2, 2, 3, 3, 4, 1), description="Blocks per stage.")
    stage_widths: tuple[Size, ...] = Field(
        (16, 24, 40, 80, 112, 192, 320),
        description="Channels between the blocks of each stage, before `width_multiplier`.",
    )
    strides: tuple[Literal[1, 2], ...] = Field(
        (1, 2, 2, 2, 1, 2, 1), description="Stride of each stage's first block."
    )
    kernels: tuple[Literal[3, 5, 7], ...] = Field(
        (3, 3, 5, 3, 5, 5, 3), description="Kernel size of each stage's depthwise convolutions."
    )
    expansions: tuple[Size, ...] = Field(
        (1, 6, 6, 6, 6, 6, 6),
        description="Channels inside the blocks of each stage, as a multiple of those before them.",
    )
    symmetric: tuple[int, ...] = Field(
        (), description="Stages, counted from 0, whose first block pads both sides alike."
    )
    width_multiplier: float = Field(1.0, gt=0, le=64, description="Factor of all widths.")
    width_divisor: Size = Field(8, description="Widths are multiples of it.")
    squeeze_ratio: float = Field(
        0.25, gt=0, le=64, description="Squeezed channels, as parts of those before a block."
    )
    batch_norm_eps: float = Field(1e-3, gt=0, description="Added to the variance in BatchNorm.")

    @property
    def stem(self) -> Convolution:
        """The first convolution."""
        return Convolution(3, 2, (0, 1), self.image_size)

    @property
    def stem_width(self) -> int:
        """Channels after the first convolution."""
        return self._width(STEM)

    @property
    def top_width(self) -> int:
        """Channels after the last convolution."""
        return self._width(TOP)

    def _width(self, channels: int) -> int:
        return divisible(channels * self.width_multiplier, self.width_divisor, self.width_divisor)

    def _plan(self) -> Iterator[BlockPlan]:
        width, side, number = self.stem_width, self.stem.out_side, 0
        for stage, depth in enumerate(self.depths):
            kernel, expansion = self.kernels[stage], self.expansions[stage]
            behind = kernel // 2
            for index in range(depth):
                stride = 1 if index else self.strides[stage]
                uneven = stride == 2 and stage not in self.symmetric
                pads = (behind - 1, behind) if uneven else (behind, behind)
                before, width = width, self._width(self.stage_widths[stage])
                depthwise = Convolution(kernel, stride, pads, side)
                yield BlockPlan(
                    name=str(number),
                    depthwise=depthwise,
                    in_width=before,
                    inner_width=before * expansion,
                    out_width=width,
                    expands=expansion != 1,
                    squeezed=max(1, int(before * self.squeeze_ratio)),
                    residual=index > 0,
                )
                number, side = number + 1, depthwise.out_side
