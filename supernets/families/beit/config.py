"""Sizes of a BEiT."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from supernets.families.sizes import ImageTransformerSizes


class BeitConfig(ImageTransformerSizes):
    """Sizes of a BEiT, whose attention knows how tokens lie to one another."""

    family: Literal["beit"] = "beit"
    kind: Literal["beit", "data2vec-vision"] = Field(
        "beit", description="What transformers calls it; both compute the same."
    )
    layer_norm_eps: float = Field(1e-12, gt=0, description="Added to the variance in LayerNorm.")
    positions: bool = Field(False, description="Whether every token has a position embedding.")
    relative: bool = Field(
        True, description="Whether relative places of tokens count in attention."
    )
    mean_pooling: bool = Field(
        True, description="Whether the classifier reads the mean of the patches, not a token."
    )

    @property
    def pooling(self) -> Literal["first", "mean"]:
        """The mean of the patches, or the class token."""
        return "mean" if self.mean_pooling else "first"

    @property
    def last_norm(self) -> Literal["tokens", "pooled"]:
        """The mean is normalised, not what it is of."""
        return "pooled" if self.mean_pooling else "tokens"

    @property
    def qkv_biases(self) -> tuple[bool, bool, bool]:
        """Keys have none, which no softmax would see."""
        return True, False, True

    @property
    def absolute_positions(self) -> bool:
        """As config.json says."""
        return self.positions

    @property
    def relative_positions(self) -> bool:
        """As config.json says."""
        return self.relative
