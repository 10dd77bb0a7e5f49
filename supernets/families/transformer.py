"""What vision and text transformers share as super-networks: elastic depth, heads and neurons."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from supernets.families.sizes import TransformerSizes
from supernets.families.super_network import SuperNetwork
from supernets.layers.attention import (
    ElasticAttention,
    ElasticFeedForward,
    block_cost,
    head_units,
    neuron_units,
)
from supernets.layers.composed import Composed
from supernets.layers.coupled_units import Units
from supernets.layers.elastic import ElasticLayerNorm
from supernets.space.cost import Counts, Extent, Values

BlockT = TypeVar("BlockT", bound=nn.Module)


def reading(blocks: Sequence[BlockT], tokens: int | None) -> Iterator[tuple[BlockT, int | None]]:
    """Each block with how many tokens it is to compute: all (None), and in the last block `tokens`.

    An exported graph computes all of them: every block can be the last one of a candidate that is
    cut from it, and `hardware.graph.first_tokens` narrows that one.
    """
    whole = torch.compiler.is_exporting()
    for number, block in enumerate(blocks, start=1):
        yield block, tokens if number == len(blocks) and not whole else None


class ElasticBlock(Composed):
    """A transformer block of elastic layers; families differ in where the norms are."""

    attention: ElasticAttention
    mlp: ElasticFeedForward

    @property
    @abstractmethod
    def norms(self) -> Sequence[ElasticLayerNorm]:
        """The norms of attention and feed-forward part."""


class TransformerSuperNetwork(SuperNetwork):
    """A transformer whose blocks, heads and neurons can be left out."""

    config: TransformerSizes
    blocks: nn.ModuleDict

    def block(self, index: int) -> ElasticBlock:
        """One block by its index."""
        block = self.blocks[str(index)]
        assert isinstance(block, ElasticBlock)
        return block

    @property
    def active_blocks(self) -> list[int]:
        """Indices of the blocks that run, in order."""
        return self.active["depth"]

    def block_path(self, depth_gene: str, index: int) -> str:
        """Module path of one droppable block."""
        return f"blocks.{index}"

    def units(self) -> list[Units]:
        """Heads and neurons of every block."""
        return [
            group
            for index in range(self.config.depth)
            for group in (
                head_units(f"blocks.{index}", self.block(index).attention),
                neuron_units(f"blocks.{index}", self.block(index).mlp),
            )
        ]

    def branch_outputs(self, block: str) -> list[Tensor]:
        """Weights and biases that end attention and feed-forward part."""
        module = self.get_submodule(block)
        assert isinstance(module, ElasticBlock)
        return [*module.attention.out.parameters(), *module.mlp.fc2.parameters()]

    def block_costs(
        self, values: Values, embed_dim: Counts, tokens: Sequence[Counts], read: int | Counts
    ) -> tuple[dict[str, Extent], Counts]:
        """Extents of all blocks' layers, and their other MACs; the last block's for `read` tokens.

        embed_dim: `(n,)`. tokens: those that each block is given, `(n,)` each.
        """
        config = self.config
        extents: dict[str, Extent] = {}
        macs = np.zeros_like(embed_dim)
        depth = values.sizes("depth", config.depth)
        is_last = np.ones(len(values), dtype=bool)
        for index in reversed(range(config.depth)):
            path, kept = f"blocks.{index}", depth >= self.rank("depth", index)
            heads = values.sizes(f"{path}.attention.num_heads", config.num_heads)
            hidden = values.sizes(f"{path}.mlp.hidden_dim", config.hidden_dim)
            inner, queries = heads * config.head_dim, np.where(is_last, read, tokens[index])
            found, attention = block_cost(
                path,
                embed_dim,
                inner,
                hidden,
                tokens[index],
                kept,
                queries=queries,
                gated=self.block(index).mlp.gate is not None,
            )
            places, scores = self.place_costs(index, embed_dim, inner, tokens[index], queries, kept)
            extents |= found | places
            macs += attention + scores
            is_last &= ~kept
        return extents, macs

    def place_costs(
        self,
        index: int,
        embed_dim: Counts,
        inner: Counts,
        tokens: Counts,
        queries: Counts,
        kept: NDArray[np.bool_],
    ) -> tuple[dict[str, Extent], Counts]:
        """What one block's attention takes for relative places, as `block_cost` tells the rest."""
        return {}, np.zeros_like(tokens)

    def inner_parameters(self, values: Values) -> tuple[Counts, Counts]:
        """Parameters of tables of relative places and of norms between layers of a block.

        Those of the heads and neurons in use, and of the others.
        """
        config = self.config
        used, unused = np.zeros(len(values), np.int64), np.zeros(len(values), np.int64)
        depth = values.sizes("depth", config.depth)
        for index in range(config.depth):
            path, block = f"blocks.{index}", self.block(index)
            attention, mlp = block.attention, block.mlp
            per_head = 0 if attention.bias is None else len(attention.bias.table)
            per_head += 0 if attention.norm is None else 2 * config.head_dim
            per_neuron = 0 if mlp.norm is None else 2
            kept = depth >= self.rank("depth", index)
            for gene, full, each in (
                (f"{path}.attention.num_heads", config.num_heads, per_head),
                (f"{path}.mlp.hidden_dim", config.hidden_dim, per_neuron),
            ):
                active = values.sizes(gene, full)
                used += each * active * kept
                unused += each * (full - active) * kept
        return used, unused
