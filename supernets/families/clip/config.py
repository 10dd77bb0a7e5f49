"""Sizes of the image tower of CLIP."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from supernets.families.sizes import ImageTransformerSizes


class ClipConfig(ImageTransformerSizes):
    """Sizes of the image tower of CLIP, whose classifier reads the mean of the patches."""

    family: Literal["clip"] = "clip"
    hidden_act: Literal["quick_gelu", "gelu", "gelu_pytorch_tanh", "relu", "silu"] = Field(
        "quick_gelu", description="The activation between the two MLP layers."
    )
    layer_norm_eps: float = Field(1e-5, gt=0, description="Added to the variance in LayerNorm.")

    @property
    def pooling(self) -> Literal["mean"]:
        """As CLIPForImageClassification does it."""
        return "mean"

    @property
    def norm_before_blocks(self) -> bool:
        """CLIP's own."""
        return True

    @property
    def last_norm(self) -> None:
        """The last norm is of what captions are compared with, which no classifier reads."""
        return None

    @property
    def patch_bias(self) -> bool:
        """None."""
        return False

    @property
    def activation(self) -> str:
        """As config.json says; OpenAI's models and others differ."""
        return self.hidden_act
