"""Sizes of a DistilBERT."""

from __future__ import annotations

from typing import Literal

from supernets.families.texts.sizes import TextTransformerSizes


class DistilBertConfig(TextTransformerSizes):
    """Sizes of a DistilBERT."""

    family: Literal["distilbert"] = "distilbert"

    @property
    def pooled(self) -> Literal["relu"]:
        """The activation between pooler and classifier."""
        return "relu"
