"""Sizes of a BERT."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from supernets.families.sizes import Size, TextSizes
from supernets.families.texts.sizes import TextTransformerSizes


class TokenTypes(TextSizes):
    """Sizes of a network that is told which segment a token is of."""

    token_types: Size = Field(2, description="Kinds of segments, two for text pairs.")

    @property
    def rows(self) -> Mapping[str, int]:
        """Rows of the word and of the token-type embedding."""
        return {"input_ids": self.vocab_size, "token_type_ids": self.token_types}


class BertConfig(TokenTypes, TextTransformerSizes):
    """Sizes of a BERT."""

    family: Literal["bert"] = "bert"
