"""Token ids as vectors: what text transformers add up before their first block.

B batch, T tokens, E embedding width, D embed_dim
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from supernets.layers.composed import Composed
from supernets.layers.elastic import ElasticEmbedding, ElasticLayerNorm, ElasticLinear


class TextEmbeddings(nn.Module):
    """Sum of word, position and token-type embeddings, normalised, and projected to the stream.

    Only `word` and `norm` are in every network. padding: the id at which positions are not
    counted, where they are counted from the one after it; None where they are counted from 0.
    """

    def __init__(
        self,
        word: nn.Embedding,
        norm: nn.LayerNorm,
        position: nn.Embedding | None = None,
        token_type: nn.Embedding | None = None,
        projection: nn.Linear | None = None,
        padding: int | None = None,
    ) -> None:
        super().__init__()
        self.word, self.norm = word, norm
        self.position, self.token_type, self.projection = position, token_type, projection
        self.padding = padding

    def forward(self, input_ids: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        """Embed ids `(B, T)` into `(B, T, D)`."""
        x_BTE = self.word(input_ids)
        if self.token_type is not None:
            x_BTE = x_BTE + self.token_type(token_type_ids)
        if self.position is not None:
            x_BTE = x_BTE + self.position(self._places(input_ids))
        x_BTE = self.norm(x_BTE)
        out: Tensor = x_BTE if self.projection is None else self.projection(x_BTE)
        return out

    def _places(self, input_ids: Tensor) -> Tensor:
        """Rows of the position embedding, `(T,)` or `(B, T)`."""
        if self.padding is None:
            return torch.arange(input_ids.shape[1], device=input_ids.device)
        real = (input_ids != self.padding).long()
        return real.cumsum(dim=1) * real + self.padding


class ElasticTextEmbeddings(Composed, TextEmbeddings):
    """Embeddings of elastic layers; of the words' rows some can be left out."""

    word: ElasticEmbedding

    def __init__(
        self,
        vocab_size: int,
        embed_dim: int,
        *,
        norm_eps: float,
        norm_bias: bool,
        word_dim: int,
        positions: int,
        token_types: int,
        padding: int | None,
    ) -> None:
        super().__init__(
            ElasticEmbedding(vocab_size, word_dim),
            ElasticLayerNorm(word_dim, norm_eps, norm_bias),
            ElasticEmbedding(positions, word_dim) if positions else None,
            ElasticEmbedding(token_types, word_dim) if token_types else None,
            ElasticLinear(word_dim, embed_dim) if word_dim != embed_dim else None,
            padding,
        )
