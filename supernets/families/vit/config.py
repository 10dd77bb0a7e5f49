"""Sizes of a vision transformer."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from supernets.families.sizes import Depth, ImageSizes, Size, TransformerSizes
from supernets.space.space import Architecture, size_in


class VitConfig(ImageSizes, TransformerSizes):
    """Sizes of a vision transformer."""

    family: Literal["vit"] = "vit"
    patch_size: Size = Field(4, description="Height and width of one patch in pixels.")
    embed_dim: Size = Field(96, description="Width of the residual stream.")
    depth: Depth = Field(6, description="Number of transformer blocks.")
    num_heads: Size = Field(6, description="Attention heads per block.")
    hidden_dim: Size = Field(384, description="Neurons between the two MLP layers.")
    qkv_bias: bool = Field(True, description="Whether query, key and value have a bias.")
    layer_norm_eps: float = Field(1e-6, gt=0, description="Added to the variance in LayerNorm.")
    prefix_tokens: Literal[1, 2] = Field(
        1,
        description="Learned tokens before the patches: 1 class token, 2 with DeiT's distillation.",
    )
    head_tokens: Literal[1, 2] = Field(
        1, description="Prefix tokens the classifier reads; 2 averages DeiT's two classifiers."
    )

    @property
    def image_multiple(self) -> int:
        """Patches cover the image."""
        return self.patch_size

    @property
    def grid(self) -> int:
        """Patches along one side of the image."""
        return self.image_size // self.patch_size

    def shrunk(self, architecture: Architecture) -> Self:
        """Depth, stream width and resolution are the sub-network's."""
        resolution = size_in(architecture, "resolution", self.image_size)
        return super().shrunk(architecture).model_copy(update={"image_size": resolution})

    @model_validator(mode="after")
    def _tokens_fit(self) -> Self:
        if self.image_size % self.patch_size:
            raise ValueError(
                f"image_size {self.image_size} must be divisible by patch_size {self.patch_size}"
            )
        if self.head_tokens > self.prefix_tokens:
            raise ValueError(
                f"head_tokens {self.head_tokens} exceeds prefix_tokens {self.prefix_tokens}"
            )
        return self
