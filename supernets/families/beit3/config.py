"""Sizes of a BEiT-3."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from supernets.families.sizes import ImageTransformerSizes


class Beit3Config(ImageTransformerSizes):
    """Sizes of the half of a BEiT-3 that reads images (Wang et al. 2022, arXiv 2208.10442).

    A multiway transformer has every layer and norm twice, one for the tokens of images and one for
    those of texts; with images alone it computes with the first of each.
    """

    family: Literal["beit3"] = "beit3"
    layer_norm_eps: float = Field(1e-5, gt=0, description="Added to the variance in LayerNorm.")

    @property
    def pooling(self) -> Literal["mean"]:
        """The mean of the patches; the class token is computed with, but not read."""
        return "mean"

    @property
    def last_norm(self) -> Literal["pooled"]:
        """The mean is normalised, not what it is of."""
        return "pooled"

    @property
    def inner_norms(self) -> bool:
        """Sub-LN, in attention and in the MLP."""
        return True
