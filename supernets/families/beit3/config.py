"""Sizes of a BEiT-3."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field

from supernets.families.sizes import ImageTransformerSizes, Size
from supernets.settings import Kind

ASKED: dict[tuple[Kind, ...], Literal["image", "question", "pair"]] = {
    ("image",): "image",
    ("image", "text"): "question",
    ("image", "image", "text"): "pair",
}
"""What a sample has -> what is asked."""


class Beit3Config(ImageTransformerSizes):
    """Sizes of a BEiT-3 (Wang et al. 2022, arXiv 2208.10442).

    A multiway transformer has every layer and norm twice, one for the tokens of images and one for
    those of texts; with images alone it computes with the first of each.
    """

    family: Literal["beit3"] = "beit3"
    layer_norm_eps: float = Field(1e-5, gt=0, description="Added to the variance in LayerNorm.")
    vocab_size: int = Field(
        4096, ge=0, le=2**24, description="Entries of the vocabulary; 0: it reads images alone."
    )
    max_positions: Size = Field(128, description="Most tokens a text may have.")
    asks: Literal["image", "question", "pair"] = Field(
        "image",
        description="The class of an image, of a text about one, or of a text about two; what the "
        "data has decides.",
    )

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """Images, and texts about them."""
        return ("image", "text") if self.vocab_size else ("image",)

    @property
    def sample(self) -> tuple[Kind, ...]:
        """What is asked says it."""
        return next(kinds for kinds, asked in ASKED.items() if asked == self.asks)

    @property
    def inputs(self) -> tuple[str, ...]:
        """Images `(B, C, H, W)`, or two a sample `(B, 2, C, H, W)`, and a text."""
        images = ("pixel_values",)
        return images if self.asks == "image" else (*images, "input_ids", "attention_mask")

    def given(self, kinds: tuple[Kind, ...]) -> Self:
        """With images alone the half that reads texts is left out."""
        asks = ASKED[kinds]
        vocab_size = 0 if asks == "image" else self.vocab_size
        return self.model_copy(update={"asks": asks, "vocab_size": vocab_size})

    def parts(self, index: int) -> tuple[str, ...]:
        """Of a network for texts, both halves; of its last block those that the head reads of."""
        if self.asks == "image":
            return super().parts(index)
        only_looked_at = self.asks == "question" and index == self.depth - 1
        return (".image",) if only_looked_at else (".image", ".text")

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
        """Sub-LN (Wang et al. 2022, arXiv 2210.06423)."""
        return True
