"""Sizes of a ModernBERT (Warner et al. 2024, arXiv 2412.13663)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from supernets.families.sizes import Size
from supernets.families.texts.sizes import TextTransformerSizes


class ModernBertConfig(TextTransformerSizes):
    """Sizes of a ModernBERT."""

    family: Literal["modernbert"] = "modernbert"
    layer_norm_eps: float = Field(1e-5, gt=0, description="Added to the variance in LayerNorm.")
    global_every: Size = Field(
        3, description="Every how manieth block, the first included, looks at all tokens."
    )
    local_tokens: Size = Field(128, description="Tokens that the other blocks look at.")
    global_theta: float = Field(160_000.0, gt=0, description="Base of angles in global blocks.")
    local_theta: float = Field(10_000.0, gt=0, description="Base of angles in local blocks.")
    attention_bias: bool = Field(False, description="Whether attention's layers have a bias.")
    mlp_bias: bool = Field(False, description="Whether the MLP's layers have a bias.")
    norm_bias: bool = Field(False, description="Whether norms have a bias.")
    pooler_bias: bool = Field(False, description="Whether the pooler has a bias.")
    classifier_pooling: Literal["first", "mean"] = Field(
        "first", description="What the classifier reads: the first token, or the mean of all."
    )

    pad_token: int | None = Field(0, ge=0, description="Id of padding, for config.json alone.")

    @property
    def position_rows(self) -> int:
        """None: angles tell positions."""
        return 0

    def is_global(self, index: int) -> bool:
        """Whether a block looks at all tokens."""
        return index % self.global_every == 0

    def theta(self, index: int) -> float:
        """Base of the angles by which a block turns queries and keys."""
        return self.global_theta if self.is_global(index) else self.local_theta

    def window(self, index: int) -> int | None:
        """Half of the tokens that a local block looks at."""
        return None if self.is_global(index) else self.local_tokens // 2

    @property
    def norm_first(self) -> bool:
        """Pre-norm."""
        return True

    def attention_norm(self, index: int) -> bool:
        """Not before the first block: the embeddings are normalised."""
        return index > 0

    @property
    def gated(self) -> bool:
        """GeGLU."""
        return True

    def has_bias(self, part: Literal["attention", "mlp", "norm", "pooler"]) -> bool:
        """As the fields say."""
        return bool(getattr(self, f"{part}_bias"))

    @property
    def pooling(self) -> Literal["first", "mean"]:
        """What the pooler reads."""
        return self.classifier_pooling

    @property
    def pooled(self) -> Literal["gelu"]:
        """The activation behind the pooler."""
        return "gelu"

    @property
    def pooled_norm(self) -> bool:
        """A norm behind the pooler's activation."""
        return True
