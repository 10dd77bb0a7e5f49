"""Sizes of a DINOv2."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from supernets.families.sizes import ImageTransformerSizes, Size


class Dinov2Config(ImageTransformerSizes):
    """Sizes of a DINOv2, whose classifier reads the class token and the mean of the patches."""

    family: Literal["dinov2"] = "dinov2"
    image_size: Size = Field(56, description="Height and width of the input in pixels.")
    patch_size: Size = Field(14, description="Height and width of one patch in pixels.")
    qkv_bias: bool = Field(True, description="Whether query, key and value have a bias.")
    gate: bool = Field(False, description="Whether the MLP is a SwiGLU, as in the giant model.")
    registers: Annotated[int, Field(ge=0, le=1000)] = Field(
        0, description="Learned tokens that only the other tokens read; 4 with registers."
    )

    @property
    def prefix(self) -> int:
        """Class token and registers."""
        return 1 + self.registers

    @property
    def pooling(self) -> Literal["both"]:
        """Class token and mean of the patches."""
        return "both"

    @property
    def qkv_biases(self) -> tuple[bool, bool, bool]:
        """All or none."""
        return self.qkv_bias, self.qkv_bias, self.qkv_bias

    @property
    def gated(self) -> bool:
        """Whether the MLP is a SwiGLU."""
        return self.gate

    @property
    def activation(self) -> str:
        """SiLU in a SwiGLU, else GELU."""
        return "silu" if self.gate else "gelu"

    @property
    def smooth_positions(self) -> bool:
        """Models with registers interpolate so (transformers does, too)."""
        return self.registers > 0
