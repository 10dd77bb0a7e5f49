"""Sizes of a RoBERTa."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from supernets.families.sizes import Size
from supernets.families.texts.sizes import TextTransformerSizes


class RobertaConfig(TextTransformerSizes):
    """Sizes of a RoBERTa."""

    family: Literal["roberta"] = "roberta"
    kind: Literal["roberta", "xlm-roberta", "camembert", "data2vec-text"] = Field(
        "roberta", description="What config.json calls it (`model_type`); they compute the same."
    )
    token_types: Size = Field(1, description="Kinds of segments; one is no input of the network.")

    @property
    def padding(self) -> int:
        """RoBERTa's id of padding."""
        return 1

    @property
    def rows(self) -> Mapping[str, int]:
        """Rows of the word embedding, and of the token types' if there is a choice of them."""
        types = {"token_type_ids": self.token_types} if self.token_types > 1 else {}
        return {"input_ids": self.vocab_size, **types}
