"""What text transformers share: post-norm blocks, and elastic depth, heads and neurons on them.

B batch, T tokens, D embed_dim
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from supernets.families.sizes import TextTransformerSizes, TransformerSizes
from supernets.families.transformer import ElasticBlock, TransformerSuperNetwork, reading
from supernets.layers.attention import Attention, ElasticAttention, ElasticFeedForward, FeedForward
from supernets.layers.elastic import ElasticLayerNorm, ElasticLinear
from supernets.space.cost import Cost, Extent, Values, collect
from supernets.space.space import Architecture, Genomes, SearchSpace

DEFAULT_TOKENS = 128
"""Sequence length where none is given: that at which the papers state BERT's MACs."""


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


class ElasticTextBlock(ElasticBlock, Block):
    """Post-norm block of elastic layers."""

    attention: ElasticAttention
    mlp: ElasticFeedForward
    attention_norm: ElasticLayerNorm
    mlp_norm: ElasticLayerNorm

    def __init__(self, config: TransformerSizes) -> None:
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


class TextTransformer(nn.Module):
    """Post-norm classifier of texts by their first token.

    Blocks keep the index they had in the network they come from.
    """

    def __init__(
        self, embeddings: nn.Module, blocks: Mapping[int, Block], pooler: nn.Linear, head: nn.Linear
    ) -> None:
        super().__init__()
        self.embeddings = embeddings
        self.blocks = nn.ModuleDict({str(index): block for index, block in blocks.items()})
        self.pooler, self.head = pooler, head

    def path(self) -> Sequence[nn.Module]:
        """The blocks to run, in order."""
        return list(self.blocks.values())

    def first_token(self, x_BTD: Tensor, attention_mask: Tensor) -> Tensor:
        """What the blocks make of the first of the embedded tokens, `(B, D)`."""
        mask_B11T = (attention_mask > 0)[:, None, None, :]
        for block, read in reading(self.path(), 1):
            x_BTD = block(x_BTD, mask_B11T, read)
        return x_BTD[:, 0]


class TextSuperNetwork(TransformerSuperNetwork, TextTransformer):
    """A text transformer with elastic depth, heads and neurons."""

    config: TextTransformerSizes
    pooler: ElasticLinear
    head: ElasticLinear

    def start(self, config: TextTransformerSizes, num_labels: int) -> None:
        """Remember the sizes and use all of the network, once its modules are there."""
        self.config, self.num_labels = config, num_labels
        self.block_order = {"depth": list(range(config.depth))}
        self.activate({})

    @staticmethod
    def elastic_blocks(config: TransformerSizes) -> dict[int, Block]:
        """Blocks of full size."""
        return {index: ElasticTextBlock(config) for index in range(config.depth)}

    def extracted_blocks(self) -> dict[int, Block]:
        """Plain copies of the active blocks."""
        blocks = {index: self.block(index).extract() for index in self.active_blocks}
        return {index: block for index, block in blocks.items() if isinstance(block, Block)}

    @property
    def dynamic_axes(self) -> dict[str, dict[int, str]]:
        """Batch and sequence length vary."""
        axes = {name: {0: "batch", 1: "sequence"} for name in self.config.inputs}
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
        shape = (batch_size, length)
        return {
            name: torch.full(shape, int(name == "attention_mask")) for name in self.config.inputs
        }

    def resize(self, architecture: Architecture) -> None:
        """Use the sub-network of these sizes; a gene left out is at full size."""
        self.activate_blocks(architecture)

    def aligned(
        self, own: Tensor, full: Tensor, inputs: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """All tokens that are no padding."""
        real = inputs["attention_mask"] > 0
        return own[real], full[real]

    def cost(
        self, space: SearchSpace, genomes: Genomes, sequence_length: int | None = None
    ) -> Cost:
        """Sizes, parameters and MACs (at 128 tokens if not told) of `genomes` `(n, n_genes)`."""
        values, config = Values(space, genomes), self.config
        width = np.full(len(values), config.embed_dim, dtype=np.int64)
        once, always = np.ones_like(width), np.ones(len(values), dtype=bool)
        tokens = once * (sequence_length or DEFAULT_TOKENS)
        extents, macs = self.block_costs(values, width, [tokens] * config.depth, 1)
        for layer in self.layers:
            if layer.kind == "embedding":
                extents[layer.name] = Extent(width, once * layer.shape[0], once, always)
        extents["pooler"] = Extent(width, width, once, always)
        extents["head"] = Extent(width, once * self.num_labels, once, always)
        norms = 2 * (2 * values.sizes("depth", config.depth) + 1)
        return collect(self.layers, extents, values, norms * width, macs)
