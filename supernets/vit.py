"""The vision transformer, plain and as a super-network.

B batch, C channels, P patches, T tokens (prefix and patches), D embed_dim
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from supernets.attention import (
    Attention,
    ElasticAttention,
    ElasticFeedForward,
    FeedForward,
    head_units,
    neuron_units,
    transformer_extents,
)
from supernets.base import Architecture, SuperNetwork, resolve
from supernets.cost import Cost, Counts, Extent, Values, collect
from supernets.elastic import ElasticLayerNorm, ElasticLinear
from supernets.importance import Units
from supernets.settings import SpaceSettings, VitConfig
from supernets.space import Gene, Genomes, SearchSpace


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(
        self, norm1: nn.LayerNorm, attention: Attention, norm2: nn.LayerNorm, mlp: FeedForward
    ) -> None:
        super().__init__()
        self.norm1, self.attention, self.norm2, self.mlp = norm1, attention, norm2, mlp

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Add attention, then the feed-forward part."""
        x_BTD = x_BTD + self.attention(self.norm1(x_BTD))
        out: Tensor = x_BTD + self.mlp(self.norm2(x_BTD))
        return out


class ElasticBlock(Block):
    """Block with elastic layers."""

    norm1: ElasticLayerNorm
    attention: ElasticAttention
    norm2: ElasticLayerNorm
    mlp: ElasticFeedForward

    def __init__(self, config: VitConfig) -> None:
        width, eps = config.embed_dim, config.layer_norm_eps
        super().__init__(
            ElasticLayerNorm(width, eps),
            ElasticAttention(width, config.num_heads, config.head_dim, config.qkv_bias),
            ElasticLayerNorm(width, eps),
            ElasticFeedForward(width, config.hidden_dim),
        )

    def activate(self, embed_dim: int, num_heads: int, hidden_dim: int) -> None:
        """Use the first heads and neurons."""
        self.norm1.activate(embed_dim)
        self.attention.activate(embed_dim, num_heads)
        self.norm2.activate(embed_dim)
        self.mlp.activate(embed_dim, hidden_dim)

    def extract(self) -> Block:
        """Copy the active part into a plain block."""
        return Block(
            self.norm1.extract(),
            self.attention.extract(),
            self.norm2.extract(),
            self.mlp.extract(),
        )


class ViT(nn.Module):
    """Vision transformer; blocks keep the index they had in the network they come from."""

    def __init__(
        self,
        patch_embed: nn.Linear,
        cls_token: Tensor,
        pos_embed: Tensor,
        blocks: Mapping[int, Block],
        norm: nn.LayerNorm,
        head: nn.Linear,
        patch_size: int,
        head_tokens: int,
    ) -> None:
        super().__init__()
        self.patch_embed = patch_embed
        self.cls_token, self.pos_embed = nn.Parameter(cls_token), nn.Parameter(pos_embed)
        self.blocks = nn.ModuleDict({str(index): block for index, block in blocks.items()})
        self.norm, self.head = norm, head
        self.patch_size, self.head_tokens = patch_size, head_tokens

    def path(self) -> Iterable[nn.Module]:
        """The blocks to run, in order."""
        return self.blocks.values()

    def patches(self, pixels_BCHW: Tensor) -> Tensor:
        """Cut images into patches `(B, P, C*p*p)`, channel first as in a convolution's weight."""
        size = self.patch_size
        cut: Tensor = pixels_BCHW.unflatten(3, (-1, size)).unflatten(2, (-1, size))
        return cut.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Classify images `(B, C, H, W)` into logits `(B, classes)`."""
        x_BPD = self.patch_embed(self.patches(pixel_values))
        cls_token = self.cls_token.expand(x_BPD.shape[0], -1, -1)
        x_BTD = torch.cat([cls_token, x_BPD], dim=1) + self.pos_embed
        for block in self.path():
            x_BTD = block(x_BTD)
        read = self.norm(x_BTD)[:, : self.head_tokens]
        # With two tokens the classifiers' columns alternate, so that a prefix is a smaller width.
        logits: Tensor = self.head(read.transpose(1, 2).flatten(1))
        return logits


class ViTSuperNetwork(SuperNetwork, ViT):
    """Vision transformer with elastic depth, heads and feed-forward widths."""

    config: VitConfig
    patch_embed: ElasticLinear
    norm: ElasticLayerNorm
    head: ElasticLinear

    def __init__(self, config: VitConfig, num_labels: int) -> None:
        width, patch = config.embed_dim, config.patch_size
        tokens = (config.image_size // patch) ** 2 + config.prefix_tokens
        ViT.__init__(
            self,
            ElasticLinear(config.channels * patch**2, width),
            torch.zeros(1, config.prefix_tokens, width),
            torch.zeros(1, tokens, width),
            {index: ElasticBlock(config) for index in range(config.depth)},
            ElasticLayerNorm(width, config.layer_norm_eps),
            ElasticLinear(width * config.head_tokens, num_labels),
            patch,
            config.head_tokens,
        )
        self.config, self.num_labels = config, num_labels
        self.block_order = {"depth": list(range(config.depth))}
        self.activate({})

    @property
    def dynamic_axes(self) -> dict[str, dict[int, str]]:
        """Only the batch varies."""
        return {"pixel_values": {0: "batch"}, "logits": {0: "batch"}}

    def example_inputs(self, batch_size: int = 2) -> dict[str, Tensor]:
        """Black images."""
        size = self.config.image_size
        return {"pixel_values": torch.zeros(batch_size, self.config.channels, size, size)}

    def block(self, index: int) -> ElasticBlock:
        """One block by its index."""
        block = self.blocks[str(index)]
        assert isinstance(block, ElasticBlock)
        return block

    def path(self) -> Iterable[nn.Module]:
        """The active blocks, in order."""
        return [self.block(index) for index in self.active_blocks]

    def activate(self, architecture: Architecture) -> None:
        """Use the sub-network of these sizes; a gene left out is at full size."""
        config = self.config
        self.active_blocks = self.kept_blocks("depth", architecture.get("depth", config.depth))
        for index in self.active_blocks:
            self.block(index).activate(
                config.embed_dim,
                architecture.get(f"blocks.{index}.attention.num_heads", config.num_heads),
                architecture.get(f"blocks.{index}.mlp.hidden_dim", config.hidden_dim),
            )

    def extract(self) -> ViT:
        """Copy the active sub-network into a plain ViT, in evaluation mode."""
        return ViT(
            self.patch_embed.extract(),
            self.cls_token.detach().clone(),
            self.pos_embed.detach().clone(),
            {index: self.block(index).extract() for index in self.active_blocks},
            self.norm.extract(),
            self.head.extract(),
            self.patch_size,
            self.head_tokens,
        ).eval()

    def architecture_genes(self, settings: SpaceSettings) -> list[Gene]:
        """Depth, then heads and neurons of every block."""
        config = self.config
        heads = resolve(settings.num_heads, config.num_heads, "num_heads")
        hidden = resolve(settings.hidden_dim, config.hidden_dim, "hidden_dim", multiple=8)
        genes = [Gene("depth", resolve(settings.depth, config.depth, "depth"))]
        for index in range(config.depth):
            genes.append(Gene(f"blocks.{index}.attention.num_heads", heads))
            genes.append(Gene(f"blocks.{index}.mlp.hidden_dim", hidden))
        return genes

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

    def cost(self, space: SearchSpace, genomes: Genomes) -> Cost:
        """Sizes, MACs and parameters of the sub-networks of `genomes` `(n, n_genes)`."""
        values, config = Values(space, genomes), self.config
        width = np.full(len(values), config.embed_dim, dtype=np.int64)
        patches = (config.image_size // config.patch_size) ** 2
        tokens = patches + config.prefix_tokens
        once, always = np.ones_like(width), np.ones(len(values), dtype=bool)
        extents = {
            "patch_embed": Extent(
                once * self.patch_embed.in_features, width, once * patches, always
            ),
            "head": Extent(width * config.head_tokens, once * self.num_labels, once, always),
        }
        other_parameters: Counts = width * (tokens + config.prefix_tokens + 2)
        other_macs = np.zeros_like(width)
        depth = values.sizes("depth", config.depth)
        for index in range(config.depth):
            path, kept = f"blocks.{index}", depth >= self.rank("depth", index)
            heads = values.sizes(f"{path}.attention.num_heads", config.num_heads)
            hidden = values.sizes(f"{path}.mlp.hidden_dim", config.hidden_dim)
            inner = heads * config.head_dim
            extents |= transformer_extents(path, width, inner, hidden, once * tokens, kept)
            other_parameters = other_parameters + 4 * width * kept
            other_macs = other_macs + 2 * tokens**2 * inner * kept
        return collect(self.layers, extents, values, other_parameters, other_macs)
