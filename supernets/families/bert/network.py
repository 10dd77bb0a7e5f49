"""BERT for text classification, plain and as a super-network.

B batch, T tokens, D embed_dim
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from supernets.families.transformer import ElasticBlock, TransformerSuperNetwork, reading
from supernets.layers.attention import Attention, ElasticAttention, ElasticFeedForward, FeedForward
from supernets.layers.elastic import ElasticEmbedding, ElasticLayerNorm, ElasticLinear
from supernets.settings import BertConfig, SpaceSettings
from supernets.space.cost import Cost, Extent, Values, collect
from supernets.space.space import Architecture, Gene, Genomes, SearchSpace

DEFAULT_TOKENS = 128
"""Sequence length where none is given: that at which the papers state BERT's MACs."""


class Embeddings(nn.Module):
    """Sum of word, position and token-type embeddings, normalised."""

    def __init__(
        self, word: nn.Embedding, position: nn.Embedding, token_type: nn.Embedding, norm: nn.Module
    ) -> None:
        super().__init__()
        self.word, self.position, self.token_type, self.norm = word, position, token_type, norm

    def forward(self, input_ids: Tensor, token_type_ids: Tensor) -> Tensor:
        """Embed ids `(B, T)` into `(B, T, D)`."""
        places = torch.arange(input_ids.shape[1], device=input_ids.device)
        total = self.word(input_ids) + self.token_type(token_type_ids) + self.position(places)
        out: Tensor = self.norm(total)
        return out


class Block(nn.Module):
    """Post-norm transformer block."""

    def __init__(
        self,
        attention: Attention,
        attention_norm: nn.LayerNorm,
        mlp: FeedForward,
        mlp_norm: nn.LayerNorm,
    ) -> None:
        super().__init__()
        self.attention, self.attention_norm = attention, attention_norm
        self.mlp, self.mlp_norm = mlp, mlp_norm

    def forward(self, x_BTD: Tensor, mask_B11T: Tensor, read: int | None = None) -> Tensor:
        """Add attention, normalise, add the feed-forward part, normalise; of the `read` tokens."""
        mixed_BTD = self.attention(x_BTD, mask_B11T, read)
        x_BTD = self.attention_norm(x_BTD[:, :read] + mixed_BTD)
        out: Tensor = self.mlp_norm(x_BTD + self.mlp(x_BTD))
        return out


class ElasticBertBlock(ElasticBlock, Block):
    """Post-norm block of elastic layers."""

    attention: ElasticAttention
    mlp: ElasticFeedForward
    attention_norm: ElasticLayerNorm
    mlp_norm: ElasticLayerNorm

    def __init__(self, config: BertConfig) -> None:
        width, eps = config.embed_dim, config.layer_norm_eps
        Block.__init__(
            self,
            ElasticAttention(width, config.num_heads, config.head_dim),
            ElasticLayerNorm(width, eps),
            ElasticFeedForward(width, config.hidden_dim),
            ElasticLayerNorm(width, eps),
        )

    @property
    def norms(self) -> tuple[ElasticLayerNorm, ElasticLayerNorm]:
        """The norms after attention and feed-forward part."""
        return self.attention_norm, self.mlp_norm

    def extract(self) -> Block:
        """Copy the active part into a plain block."""
        return Block(
            self.attention.extract(),
            self.attention_norm.extract(),
            self.mlp.extract(),
            self.mlp_norm.extract(),
        )


class Bert(nn.Module):
    """BERT classifier; blocks keep the index they had in the network they come from."""

    def __init__(
        self,
        embeddings: Embeddings,
        blocks: Mapping[int, Block],
        pooler: nn.Linear,
        head: nn.Linear,
    ) -> None:
        super().__init__()
        self.embeddings = embeddings
        self.blocks = nn.ModuleDict({str(index): block for index, block in blocks.items()})
        self.pooler, self.head = pooler, head

    def path(self) -> Sequence[nn.Module]:
        """The blocks to run, in order."""
        return list(self.blocks.values())

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        """Classify texts of ids `(B, T)` into logits `(B, classes)`."""
        logits: Tensor = self.head(self.features(input_ids, attention_mask, token_type_ids))
        return logits

    def features(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        """What the classifier reads of each text, `(B, D)`."""
        mask_B11T = (attention_mask > 0)[:, None, None, :]
        x_BTD = self.embeddings(input_ids, token_type_ids)
        for block, read in reading(self.path(), 1):
            x_BTD = block(x_BTD, mask_B11T, read)
        pooled: Tensor = torch.tanh(self.pooler(x_BTD[:, 0]))
        return pooled


class BertSuperNetwork(TransformerSuperNetwork, Bert):
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
            {index: ElasticBertBlock(config) for index in range(config.depth)},
            ElasticLinear(width, width),
            ElasticLinear(width, num_labels),
        )
        self.config, self.num_labels = config, num_labels
        self.block_order = {"depth": list(range(config.depth))}
        self.activate({})

    @property
    def dynamic_axes(self) -> dict[str, dict[int, str]]:
        """Batch and sequence length vary."""
        names = ("input_ids", "attention_mask", "token_type_ids")
        axes = {name: {0: "batch", 1: "sequence"} for name in names}
        return {**axes, "logits": {0: "batch"}}

    def example_inputs(
        self, batch_size: int = 2, sequence_length: int | None = None
    ) -> dict[str, Tensor]:
        """Texts of the first vocabulary entry, nothing masked.

        Raises ValueError for more tokens than the network has positions.
        """
        most = self.config.max_positions
        length = sequence_length or min(DEFAULT_TOKENS, most)
        if length > most:
            raise ValueError(
                f"target.sequence_length: {length} tokens, but the model has {most} positions; "
                f"give at most {most}"
            )
        ids = torch.zeros(batch_size, length, dtype=torch.int64)
        return {
            "input_ids": ids,
            "attention_mask": torch.ones_like(ids),
            "token_type_ids": torch.zeros_like(ids),
        }

    def activate(self, architecture: Architecture) -> None:
        """Use the sub-network of these sizes; a gene left out is at full size."""
        self.activate_blocks(architecture)

    def extract(self) -> Bert:
        """Copy the active sub-network into a plain BERT, in evaluation mode."""
        word, position, token_type, norm = self.embeddings.children()
        assert isinstance(word, ElasticEmbedding)
        assert isinstance(position, ElasticEmbedding)
        assert isinstance(token_type, ElasticEmbedding)
        assert isinstance(norm, ElasticLayerNorm)
        blocks = {index: self.block(index).extract() for index in self.active_blocks}
        return Bert(
            Embeddings(word.extract(), position.extract(), token_type.extract(), norm.extract()),
            {index: block for index, block in blocks.items() if isinstance(block, Block)},
            self.pooler.extract(),
            self.head.extract(),
        ).eval()

    def aligned(
        self, own: Tensor, full: Tensor, inputs: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """All tokens that are no padding."""
        real = inputs["attention_mask"] > 0
        return own[real], full[real]

    def architecture_genes(self, settings: SpaceSettings) -> list[Gene]:
        """Depth, then heads and neurons of every block."""
        return self.block_genes(settings)

    def cost(
        self, space: SearchSpace, genomes: Genomes, sequence_length: int | None = None
    ) -> Cost:
        """Sizes, parameters and MACs (at 128 tokens if not told) of `genomes` `(n, n_genes)`."""
        values, config = Values(space, genomes), self.config
        width = np.full(len(values), config.embed_dim, dtype=np.int64)
        once, always = np.ones_like(width), np.ones(len(values), dtype=bool)
        tokens = once * (sequence_length or DEFAULT_TOKENS)
        extents, macs = self.block_costs(values, width, tokens, 1)
        for name, rows in (
            ("word", config.vocab_size),
            ("position", config.max_positions),
            ("token_type", config.token_types),
        ):
            extents[f"embeddings.{name}"] = Extent(once * rows, width, once, always)
        extents["pooler"] = Extent(width, width, once, always)
        extents["head"] = Extent(width, once * self.num_labels, once, always)
        norms = 2 * (2 * values.sizes("depth", config.depth) + 1)
        return collect(self.layers, extents, values, norms * width, macs)
