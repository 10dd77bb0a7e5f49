"""Sizes of an ELECTRA."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from supernets.families.bert.config import TokenTypes
from supernets.families.sizes import Size
from supernets.families.texts.sizes import TextTransformerSizes


class ElectraConfig(TokenTypes, TextTransformerSizes):
    """Sizes of an ELECTRA."""

    family: Literal["electra"] = "electra"
    embedding_dim: Size = Field(128, description="Width of the embeddings before the stream.")

    @property
    def word_dim(self) -> int:
        """Width of the embeddings, projected to the stream's if it is another."""
        return self.embedding_dim

    @property
    def pooled(self) -> Literal["gelu"]:
        """The activation between pooler and classifier."""
        return "gelu"
