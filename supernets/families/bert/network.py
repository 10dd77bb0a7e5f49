"""BERT for text classification, plain and as a super-network.

B batch, T tokens, D embed_dim
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from supernets.families.bert.config import BertConfig
from supernets.families.text_transformer import TextSuperNetwork, TextTransformer
from supernets.layers.elastic import ElasticEmbedding, ElasticLayerNorm, ElasticLinear


class Embeddings(nn.Module):
    """Sum of word, position and token-type embeddings, normalised."""

    def __init__(
        self,
        word: nn.Embedding,
        position: nn.Embedding,
        token_type: nn.Embedding,
        norm: nn.LayerNorm,
    ) -> None:
        super().__init__()
        self.word, self.position, self.token_type, self.norm = word, position, token_type, norm

    def forward(self, input_ids: Tensor, token_type_ids: Tensor) -> Tensor:
        """Embed ids `(B, T)` into `(B, T, D)`."""
        places = torch.arange(input_ids.shape[1], device=input_ids.device)
        total = self.word(input_ids) + self.token_type(token_type_ids) + self.position(places)
        out: Tensor = self.norm(total)
        return out


class Bert(TextTransformer):
    """BERT classifier."""

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        """Classify texts of ids `(B, T)` into logits `(B, classes)`."""
        logits: Tensor = self.head(self.features(input_ids, attention_mask, token_type_ids))
        return logits

    def features(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        """What the classifier reads of each text, `(B, D)`."""
        x_BTD = self.embeddings(input_ids, token_type_ids)
        return torch.tanh(self.pooler(self.first_token(x_BTD, attention_mask)))


class BertSuperNetwork(TextSuperNetwork, Bert):
    """BERT with elastic depth, heads and neurons."""

    config: BertConfig
    pooler: ElasticLinear
    head: ElasticLinear

    def __init__(self, config: BertConfig, num_labels: int) -> None:
        width = config.embed_dim
        Bert.__init__(
            self,
            Embeddings(
                ElasticEmbedding(config.vocab_size, width),
                ElasticEmbedding(config.max_positions, width),
                ElasticEmbedding(config.token_types, width),
                ElasticLayerNorm(width, config.layer_norm_eps),
            ),
            self.elastic_blocks(config),
            ElasticLinear(width, width),
            ElasticLinear(width, num_labels),
        )
        self.start(config, num_labels)

    def extract(self) -> Bert:
        """Copy the active sub-network into a plain BERT, in evaluation mode."""
        word, position, token_type, norm = self.embeddings.children()
        assert isinstance(word, ElasticEmbedding)
        assert isinstance(position, ElasticEmbedding)
        assert isinstance(token_type, ElasticEmbedding)
        assert isinstance(norm, ElasticLayerNorm)
        return Bert(
            Embeddings(word.extract(), position.extract(), token_type.extract(), norm.extract()),
            self.extracted_blocks(),
            self.pooler.extract(),
            self.head.extract(),
        ).eval()
