"""Sizes of a ResNet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from supernets.families.sizes import Size, StagedSizes


def _inner_widths(sizes: Mapping[str, Any]) -> tuple[int, ...]:
    """Those of the published networks. A value that is wrong is not among `sizes`."""
    parts = 4 if sizes.get("block") == "bottleneck" else 1
    return tuple(max(1, width // parts) for width in sizes.get("stage_widths", ()))


class ResNetConfig(StagedSizes):
    """Sizes of a ResNet; the lists have one entry per stage."""

    per_stage: ClassVar[tuple[str, ...]] = ("depths", "stage_widths", "inner_widths")

    family: Literal["resnet"] = "resnet"
    block: Literal["basic", "bottleneck"] = Field(
        "basic", description="Two 3x3 convolutions, or 1x1, 3x3, 1x1."
    )
    stem_width: Size = Field(16, description="Output channels of the first convolution.")
    stem_kernel: Literal[3, 5, 7] = Field(3, description="Kernel size of the first convolution.")
    stem_stride: Literal[1, 2] = Field(1, description="Stride of the first convolution.")
    stem_pool: bool = Field(False, description="Max-pooling by two after the first convolution.")
    inner_widths: tuple[Size, ...] = Field(
        default_factory=_inner_widths,
        description="Channels inside the blocks of each stage; left out: `stage_widths`, in "
        "bottlenecks a quarter of them.",
    )
    first_stage_stride: Literal[1, 2] = Field(1, description="Stride of the first stage.")
    stride_in_first_conv: bool = Field(
        False, description="Bottleneck: the first 1x1 convolution has the stride, not the 3x3."
    )

    @property
    def block_kernels(self) -> tuple[int, ...]:
        """Kernel size of each convolution of a block."""
        return (3, 3) if self.block == "basic" else (1, 3, 1)

    def block_widths(self, stage: int, index: int) -> tuple[int, ...]:
        """Channels before, between and after the convolutions of a block."""
        before = self.stage_widths[stage]
        if index == 0:
            before = self.stage_widths[stage - 1] if stage else self.stem_width
        inner = [self.inner_widths[stage]] * (len(self.block_kernels) - 1)
        return (before, *inner, self.stage_widths[stage])

    def block_strides(self, stage: int, index: int) -> tuple[int, ...]:
        """Stride of each convolution of a block."""
        stride = 1 if index else 2 if stage else self.first_stage_stride
        if self.block == "basic":
            return (stride, 1)
        return (stride, 1, 1) if self.stride_in_first_conv else (1, stride, 1)

    def has_shortcut(self, stage: int, index: int) -> bool:
        """Whether a block changes width or resolution, so that its shortcut is a convolution."""
        widths, strides = self.block_widths(stage, index), self.block_strides(stage, index)
        return widths[0] != widths[-1] or max(strides) > 1

    @property
    def elastic_inner_widths(self) -> dict[str, int]:
        """Block -> channels inside it."""
        return {path: self.inner_widths[stage] for path, stage in self.blocks.items()}
