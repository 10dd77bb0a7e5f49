"""Sizes of a DeBERTa (He et al. 2021, arXiv 2111.09543)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Self

from pydantic import Field, model_validator

from supernets.families.sizes import Size
from supernets.families.texts.sizes import TextTransformerSizes


class DebertaConfig(TextTransformerSizes):
    """Sizes of a DeBERTa.

    Every block has projections of relative places of its own. Where a checkpoint shares those of
    contents (`share_att_key`), they begin as these.
    """

    family: Literal["deberta"] = "deberta"
    layer_norm_eps: float = Field(1e-7, gt=0, description="Added to the variance in LayerNorm.")
    buckets: int = Field(
        256, ge=0, description="Ranges of distances in each direction; 0: every distance is one."
    )
    max_distance: Size = Field(512, description="The farthest distance that is told apart.")
    terms: tuple[Literal["c2p", "p2c"], ...] = Field(
        ("c2p", "p2c"), description="Content to position, position to content.", min_length=1
    )
    places_norm: bool = Field(True, description="Whether vectors of places are normalised.")
    shared_projections: bool = Field(
        True, description="Whether projections of places begin as those of contents."
    )
    absolute: bool = Field(False, description="Whether embeddings tell positions too.")
    token_types: int = Field(0, ge=0, le=2**24, description="Kinds of segments; 0: no input.")

    @model_validator(mode="after")
    def _distances_fall_into_buckets(self) -> Self:
        middle = self.buckets // 2
        if self.buckets == 1:
            raise ValueError("buckets must be 0 or at least 2 (given: 1)")
        if self.buckets and self.max_positions - 1 > middle >= self.max_distance - 1:
            raise ValueError(
                f"max_distance must be over {middle + 1}, for buckets are {self.buckets} "
                f"(given: {self.max_distance})"
            )
        return self

    @property
    def rows(self) -> Mapping[str, int]:
        """Rows of the word embedding, and of the token types' if there are any."""
        types = {"token_type_ids": self.token_types} if self.token_types else {}
        return {"input_ids": self.vocab_size, **types}

    @property
    def position_rows(self) -> int:
        """As many as positions, or none."""
        return self.max_positions if self.absolute else 0

    @property
    def relative_span(self) -> int:
        """Half of the vectors of relative places."""
        return self.buckets or self.max_distance

    @property
    def relative_terms(self) -> tuple[Literal["c2p", "p2c"], ...]:
        """What scores are of besides contents."""
        return self.terms

    @property
    def relative_norm(self) -> bool:
        """Whether vectors of places are normalised."""
        return self.places_norm

    @property
    def farthest(self) -> int | None:
        """The distance up to which buckets widen."""
        return self.max_distance if self.buckets else None

    @property
    def pooled(self) -> Literal["gelu"]:
        """The activation behind the pooler."""
        return "gelu"
