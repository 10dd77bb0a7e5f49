"""Sizes of a Swin."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from supernets.families.sizes import Size, StagedSizes
from supernets.space.space import Architecture, size_in


class SwinConfig(StagedSizes):
    """Sizes of a Swin; the lists have one entry per stage, and widths double."""

    per_stage: ClassVar[tuple[str, ...]] = ("depths", "stage_widths", "num_heads")
    family: Literal["swin"] = "swin"
    patch_size: Size = Field(2, description="Height and width of one patch in pixels.")
    window_size: Size = Field(4, description="Height and width of a window in patches.")
    num_heads: tuple[Size, ...] = Field((1, 2, 4), description="Attention heads of each stage.")
    mlp_ratio: float = Field(
        4.0, gt=0, le=1000, description="Neurons between the two MLP layers, per feature."
    )
    qkv_bias: bool = Field(True, description="Whether query, key and value have a bias.")
    layer_norm_eps: float = Field(1e-5, gt=0, description="Added to the variance in LayerNorm.")

    @property
    def neurons(self) -> list[int]:
        """Neurons between the two MLP layers of each stage's blocks."""
        return [int(self.mlp_ratio * width) for width in self.stage_widths]

    @property
    def sides(self) -> list[int]:
        """Patches along one side of the image in every stage."""
        return [self.image_size // self.patch_size // 2**stage for stage in range(self.stages)]

    @property
    def image_multiple(self) -> int:
        """Windows cover the image in every stage."""
        return self.patch_size * self.window_size << self.stages - 1

    def shrunk(self, architecture: Architecture) -> Self:
        """Blocks per stage are the sub-network's, and its largest ratio of neurons."""
        sizes = super().shrunk(architecture)
        ratios = [
            size_in(architecture, f"{path}.mlp.hidden_dim", self.neurons[stage])
            / self.stage_widths[stage]
            for path, stage in self.blocks.items()
        ]
        return sizes.model_copy(update={"mlp_ratio": max(ratios)})

    @model_validator(mode="after")
    def _windows_and_heads_fit(self) -> Self:
        if self.image_size % self.image_multiple:
            raise ValueError(
                f"image_size {self.image_size} must be a multiple of {self.image_multiple}, so "
                f"that windows of {self.window_size} patches cover it in all {self.stages} stages"
            )
        first = self.stage_widths[0]
        if list(self.stage_widths) != [first * 2**stage for stage in range(self.stages)]:
            raise ValueError(f"stage_widths {list(self.stage_widths)} must double at every stage")
        for width, heads, neurons in zip(
            self.stage_widths, self.num_heads, self.neurons, strict=True
        ):
            if width % heads or not neurons:
                raise ValueError(
                    f"a stage of width {width} cannot have {heads} heads and {neurons} neurons; "
                    "the width must be divisible by the heads, and a neuron must be left"
                )
        return self
