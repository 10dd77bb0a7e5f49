"""Sizes of a ConvNeXt."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from supernets.families.sizes import Size, StagedSizes

EXPANSION = 4
"""Neurons between the two linear layers of a block, as a multiple of its width."""


class ConvNextConfig(StagedSizes):
    """Sizes of a ConvNeXt; the lists have one entry per stage."""

    family: Literal["convnext"] = "convnext"
    patch_size: Size = Field(4, description="Height and width of one patch in pixels.")
    response_norm: bool = Field(
        False, description="Version 2: responses are normalised inside the blocks."
    )
    layer_norm_eps: float = Field(
        1e-12, gt=0, description="Added to the variance in the last LayerNorm."
    )

    @property
    def elastic_inner_widths(self) -> dict[str, int]:
        """Block -> neurons inside it."""
        widths = self.stage_widths
        return {path: EXPANSION * widths[stage] for path, stage in self.blocks.items()}

    @property
    def sides(self) -> list[int]:
        """Height and width of the feature maps of every stage."""
        first = self.image_size // self.patch_size
        return [first // 2**stage for stage in range(self.stages)]

    @model_validator(mode="after")
    def _pixels_are_left(self) -> Self:
        if not self.sides[-1]:
            raise ValueError(
                f"image_size {self.image_size} leaves no pixel for {self.stages} stages after "
                f"patches of {self.patch_size}; give at least "
                f"{self.patch_size * 2 ** (self.stages - 1)}"
            )
        return self
