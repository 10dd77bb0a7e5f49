"""Sizes of the image tower of SigLIP."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from supernets.families.sizes import ImageTransformerSizes


class SiglipConfig(ImageTransformerSizes):
    """Sizes of the image tower of SigLIP, whose classifier reads the mean of the patches."""

    family: Literal["siglip"] = "siglip"
    hidden_act: Literal["gelu_pytorch_tanh", "gelu", "quick_gelu", "relu", "silu"] = Field(
        "gelu_pytorch_tanh", description="The activation between the two MLP layers."
    )

    @property
    def prefix(self) -> int:
        """No class token."""
        return 0

    @property
    def pooling(self) -> Literal["mean"]:
        """As SiglipForImageClassification does it, without the head that attends."""
        return "mean"

    @property
    def activation(self) -> str:
        """As config.json says."""
        return self.hidden_act
