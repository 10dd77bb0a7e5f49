"""Sizes of a vision transformer."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from supernets.families.sizes import Depth, ImageTransformerSizes, Size


class VitConfig(ImageTransformerSizes):
    """Sizes of a vision transformer."""

    family: Literal["vit"] = "vit"
    kind: Literal["vit", "deit", "vit_msn", "ijepa"] = Field(
        "vit", description="What transformers calls it; the sizes say what it computes."
    )
    patch_size: Size = Field(4, description="Height and width of one patch in pixels.")
    embed_dim: Size = Field(96, description="Width of the residual stream.")
    depth: Depth = Field(6, description="Number of transformer blocks.")
    num_heads: Size = Field(6, description="Attention heads per block.")
    hidden_dim: Size = Field(384, description="Neurons between the two MLP layers.")
    qkv_bias: bool = Field(True, description="Whether query, key and value have a bias.")
    prefix_tokens: Literal[0, 1, 2] = Field(
        1,
        description="Learned tokens before the patches: 1 class token, 2 with DeiT's distillation; "
        "without any, the classifier reads the mean of the patches.",
    )
    head_tokens: Literal[1, 2] = Field(
        1, description="Prefix tokens the classifier reads; 2 averages DeiT's two classifiers."
    )

    @property
    def prefix(self) -> int:
        """Class token, and DeiT's distillation token."""
        return self.prefix_tokens

    @property
    def pooling(self) -> Literal["first", "mean"]:
        """Where there is no class token, the mean of the patches."""
        return "first" if self.prefix_tokens else "mean"

    @property
    def pooled_vectors(self) -> int:
        """A token for each of DeiT's two classifiers."""
        return self.head_tokens

    @property
    def qkv_biases(self) -> tuple[bool, bool, bool]:
        """All or none."""
        return self.qkv_bias, self.qkv_bias, self.qkv_bias

    @model_validator(mode="after")
    def _tokens_fit(self) -> Self:
        if self.head_tokens > max(1, self.prefix_tokens):
            raise ValueError(
                f"head_tokens {self.head_tokens} exceeds prefix_tokens {self.prefix_tokens}"
            )
        return self
