"""DistilBERT for text classification, plain and as a super-network.

B batch, T tokens, D embed_dim
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from supernets.families.distilbert.config import DistilBertConfig
from supernets.families.text_transformer import TextSuperNetwork, TextTransformer
from supernets.layers.elastic import ElasticEmbedding, ElasticLayerNorm, ElasticLinear


class Embeddings(nn.Module):
    """Sum of word and position embeddings, normalised."""

    def __init__(self, word: nn.Embedding, position: nn.Embedding, norm: nn.LayerNorm) -> None:
        super().__init__()
        self.word, self.position, self.norm = word, position, norm

    def forward(self, input_ids: Tensor) -> Tensor:
        """Embed ids `(B, T)` into `(B, T, D)`."""
        places = torch.arange(input_ids.shape[1], device=input_ids.device)
        out: Tensor = self.norm(self.word(input_ids) + self.position(places))
        return out


class DistilBert(TextTransformer):
    """DistilBERT classifier."""

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Classify texts of ids `(B, T)` into logits `(B, classes)`."""
        logits: Tensor = self.head(self.features(input_ids, attention_mask))
        return logits

    def features(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """What the classifier reads of each text, `(B, D)`."""
        first_BD = self.first_token(self.embeddings(input_ids), attention_mask)
        return torch.relu(self.pooler(first_BD))


class DistilBertSuperNetwork(TextSuperNetwork, DistilBert):
    """DistilBERT with elastic depth, heads and neurons."""

    config: DistilBertConfig

    def __init__(self, config: DistilBertConfig, num_labels: int) -> None:
        width = config.embed_dim
        DistilBert.__init__(
            self,
            Embeddings(
                ElasticEmbedding(config.vocab_size, width),
                ElasticEmbedding(config.max_positions, width),
                ElasticLayerNorm(width, config.layer_norm_eps),
            ),
            self.elastic_blocks(config),
            ElasticLinear(width, width),
            ElasticLinear(width, num_labels),
        )
        self.start(config, num_labels)

    def extract(self) -> DistilBert:
        """Copy the active sub-network into a plain DistilBERT, in evaluation mode."""
        word, position, norm = self.embeddings.children()
        assert isinstance(word, ElasticEmbedding)
        assert isinstance(position, ElasticEmbedding)
        assert isinstance(norm, ElasticLayerNorm)
        return DistilBert(
            Embeddings(word.extract(), position.extract(), norm.extract()),
            self.extracted_blocks(),
            self.pooler.extract(),
            self.head.extract(),
        ).eval()
