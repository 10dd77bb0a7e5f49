"""Sizes of a transformer that reads texts, and what its families differ in; free of torch."""

from __future__ import annotations

from typing import Literal, Self

from supernets.families.sizes import TextSizes, TransformerSizes
from supernets.space.space import VOCABULARY, Architecture, size_in


class TextTransformerSizes(TextSizes, TransformerSizes):
    """Sizes of a stack of transformer blocks that reads texts.

    Properties say how the families differ; here they are those of BERT.
    """

    def shrunk(self, architecture: Architecture) -> Self:
        """Depth, neurons and vocabulary are the sub-network's."""
        size = size_in(architecture, VOCABULARY, self.vocab_size)
        return super().shrunk(architecture).model_copy(update={"vocab_size": size})

    @property
    def position_rows(self) -> int:
        """Rows of the position embedding, those that no token has included."""
        return self.max_positions + (0 if self.padding is None else self.padding + 1)

    @property
    def word_dim(self) -> int:
        """Width of the embeddings, which may be projected to that of the stream."""
        return self.embed_dim

    @property
    def relative_buckets(self) -> int:
        """Rows of the table by which every block adds numbers to the scores of pairs of tokens."""
        return 0

    @property
    def relative_span(self) -> int:
        """Half of the vectors of relative places that scores of `relative_terms` are of."""
        return 0

    @property
    def relative_terms(self) -> tuple[Literal["c2p", "p2c"], ...]:
        """What scores are of besides contents: content to position, position to content."""
        return ()

    @property
    def relative_norm(self) -> bool:
        """Whether the vectors of relative places are normalised."""
        return False

    @property
    def farthest(self) -> int | None:
        """The distance up to which ranges of relative places widen; None: each is of its own."""
        return None

    def theta(self, index: int) -> float | None:
        """Base of the angles by which a block turns queries and keys, if it does."""
        return None

    def window(self, index: int) -> int | None:
        """How far from a token others lie that a block lets it look at; None: anywhere."""
        return None

    @property
    def norm_first(self) -> bool:
        """Whether blocks normalise what their layers read; then the last block's output too."""
        return False

    def attention_norm(self, index: int) -> bool:
        """Whether a block normalises for its attention."""
        return True

    @property
    def gated(self) -> bool:
        """Whether the activation of the MLP multiplies a second linear layer."""
        return False

    def has_bias(self, part: Literal["attention", "mlp", "norm", "pooler"]) -> bool:
        """Whether layers of this kind have a bias."""
        return True

    @property
    def pooling(self) -> Literal["first", "mean"]:
        """What the pooler reads: the first token, or the mean of all."""
        return "first"

    @property
    def pooled(self) -> Literal["gelu", "relu", "tanh"]:
        """The activation behind the pooler."""
        return "tanh"

    @property
    def pooled_norm(self) -> bool:
        """Whether what is pooled is normalised for the classifier."""
        return False
