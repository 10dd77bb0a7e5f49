"""Text transformers of post-norm blocks, plain and as super-networks; sizes say what they have.

B batch, T tokens, D embed_dim
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy

import numpy as np
import torch
from torch import Tensor, nn

from supernets.families.sizes import TextTransformerSizes
from supernets.families.transformer import ElasticBlock, TransformerSuperNetwork, reading
from supernets.layers.activations import ACTIVATIONS
from supernets.layers.attention import Attention, ElasticAttention, ElasticFeedForward, FeedForward
from supernets.layers.elastic import ElasticLayerNorm, ElasticLinear
from supernets.layers.text_embeddings import ElasticTextEmbeddings, TextEmbeddings
from supernets.layers.text_positions import bucket_rows
from supernets.space.cost import Cost, Extent, Values, collect
from supernets.space.space import Genomes, SearchSpace

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

    def forward(
        self,
        x_BTD: Tensor,
        mask_B11T: Tensor,
        read: int | None = None,
        rows_TT: Tensor | None = None,
    ) -> Tensor:
        """Add attention, normalise, add the feed-forward part, normalise; of the `read` tokens.

        rows_TT: rows of the table of relative places, where attention has one.
        """
        bias = self.attention.bias
        mask = mask_B11T if bias is None or rows_TT is None else mask_B11T + bias(rows_TT[:read])
        mixed_BTD = self.attention(x_BTD, mask, read)
        x_BTD = self.attention_norm(x_BTD[:, :read] + mixed_BTD)
        out: Tensor = self.mlp_norm(x_BTD + self.mlp(x_BTD))
        return out


class ElasticTextBlock(ElasticBlock, Block):
    """Post-norm block of elastic layers."""

    attention: ElasticAttention
    mlp: ElasticFeedForward
    attention_norm: ElasticLayerNorm
    mlp_norm: ElasticLayerNorm

    def __init__(self, config: TextTransformerSizes) -> None:
        width, eps = config.embed_dim, config.layer_norm_eps
        Block.__init__(
            self,
            ElasticAttention(
                width, config.num_heads, config.head_dim, bias_rows=config.relative_buckets
            ),
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

    Blocks keep the index they had in the network they come from. activation: between `pooler` and
    `head`.
    """

    def __init__(
        self,
        config: TextTransformerSizes,
        embeddings: TextEmbeddings,
        blocks: Mapping[int, Block],
        pooler: nn.Linear,
        head: nn.Linear,
        activation: nn.Module,
    ) -> None:
        super().__init__()
        self.config, self.embeddings = config, embeddings
        self.blocks = nn.ModuleDict({str(index): block for index, block in blocks.items()})
        self.pooler, self.activation, self.head = pooler, activation, head

    def path(self) -> Sequence[nn.Module]:
        """The blocks to run, in order."""
        return list(self.blocks.values())

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> Tensor:
        """Classify texts of ids `(B, T)` into logits `(B, classes)`."""
        logits: Tensor = self.head(self.features(input_ids, attention_mask, token_type_ids))
        return logits

    def features(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> Tensor:
        """What the classifier reads of each text, `(B, D)`."""
        x_BTD = self.encode(input_ids, attention_mask, token_type_ids, read=1)
        pooled_BD: Tensor = self.activation(self.pooler(x_BTD[:, 0]))
        return pooled_BD

    def encode(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        token_type_ids: Tensor | None = None,
        read: int | None = None,
    ) -> Tensor:
        """What the blocks make of the tokens, `(B, T, D)`; at least of the first `read`."""
        x_BTD: Tensor = self.embeddings(input_ids, token_type_ids)
        mask_B11T, rows_TT = (attention_mask > 0)[:, None, None, :], None
        if self.config.relative_buckets:
            mask_B11T = torch.where(mask_B11T, 0.0, -torch.inf)
            rows_TT = self._relative_rows(x_BTD)
        for block, count in reading(self.path(), read):
            x_BTD = block(x_BTD, mask_B11T, count, rows_TT)
        return x_BTD

    def _relative_rows(self, x_BTD: Tensor) -> Tensor:
        config, tokens = self.config, x_BTD.shape[1]
        return bucket_rows(tokens, config.relative_buckets, config.max_positions, x_BTD.device)


class TextSuperNetwork(TransformerSuperNetwork, TextTransformer):
    """A text transformer with elastic depth, heads and neurons."""

    config: TextTransformerSizes
    embeddings: ElasticTextEmbeddings
    pooler: ElasticLinear
    head: ElasticLinear

    def __init__(self, config: TextTransformerSizes, num_labels: int) -> None:
        width = config.embed_dim
        TextTransformer.__init__(
            self,
            config,
            ElasticTextEmbeddings(
                config.vocab_size,
                width,
                norm_eps=config.layer_norm_eps,
                embedding_dim=config.word_dim,
                positions=config.position_rows,
                token_types=config.rows.get("token_type_ids", 0),
                padding=config.padding,
            ),
            {index: ElasticTextBlock(config) for index in range(config.depth)},
            ElasticLinear(width, width),
            ElasticLinear(width, num_labels),
            ACTIVATIONS[config.pooled](),
        )
        self.start(config, num_labels)

    def extract(self) -> TextTransformer:
        """Copy the active sub-network into a plain network, in evaluation mode."""
        blocks = {index: self.block(index).extract() for index in self.active_blocks}
        return TextTransformer(
            self.config,
            self.embeddings.extract(),
            {index: block for index, block in blocks.items() if isinstance(block, Block)},
            self.pooler.extract(),
            self.head.extract(),
            deepcopy(self.activation),
        ).eval()

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
            if layer.name not in extents:
                uses = tokens if layer.name == "embeddings.projection" else once
                sizes = once * layer.shape[1], once * layer.shape[0]
                extents[layer.name] = Extent(*sizes, uses, always)
        norms = 4 * values.sizes("depth", config.depth) * width + 2 * config.word_dim
        biases, unused = self.relative_biases(values)
        return collect(self.layers, extents, values, norms + biases, macs, unused)
