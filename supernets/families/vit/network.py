"""The vision transformer, plain and as a super-network.

B batch, C channels, P patches, T tokens (prefix and patches), D embed_dim
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from supernets.families.transformer import ElasticBlock, TransformerSuperNetwork, reading
from supernets.families.vit.config import VitConfig
from supernets.families.vit.positions import resize_patches
from supernets.layers.attention import Attention, ElasticAttention, ElasticFeedForward, FeedForward
from supernets.layers.coupled_units import Part, Units
from supernets.layers.elastic import ElasticLayerNorm, ElasticLinear
from supernets.space.cost import Cost, Extent, Values, collect
from supernets.space.space import Architecture, Genomes, SearchSpace, size_in


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(
        self, norm1: nn.LayerNorm, attention: Attention, norm2: nn.LayerNorm, mlp: FeedForward
    ) -> None:
        super().__init__()
        self.norm1, self.attention, self.norm2, self.mlp = norm1, attention, norm2, mlp

    def forward(self, x_BTD: Tensor, read: int | None = None) -> Tensor:
        """Add attention, then the feed-forward part; of the first `read` tokens."""
        x_BTD = x_BTD[:, :read] + self.attention(self.norm1(x_BTD), read=read)
        out: Tensor = x_BTD + self.mlp(self.norm2(x_BTD))
        return out


class ElasticVitBlock(ElasticBlock, Block):
    """Pre-norm block of elastic layers."""

    attention: ElasticAttention
    mlp: ElasticFeedForward
    norm1: ElasticLayerNorm
    norm2: ElasticLayerNorm

    def __init__(self, config: VitConfig) -> None:
        width, eps = config.embed_dim, config.layer_norm_eps
        Block.__init__(
            self,
            ElasticLayerNorm(width, eps),
            ElasticAttention(width, config.num_heads, config.head_dim, config.qkv_bias),
            ElasticLayerNorm(width, eps),
            ElasticFeedForward(width, config.hidden_dim),
        )

    @property
    def norms(self) -> tuple[ElasticLayerNorm, ElasticLayerNorm]:
        """The norms before attention and feed-forward part."""
        return self.norm1, self.norm2

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

    def path(self) -> Sequence[nn.Module]:
        """The blocks to run, in order."""
        return list(self.blocks.values())

    def prefix(self) -> Tensor:
        """Learned tokens before the patches, `(1, prefix_tokens, D)`."""
        return self.cls_token

    def positions(self) -> Tensor:
        """Position embeddings of all tokens, `(1, T, D)`."""
        return self.pos_embed

    def patches(self, pixels_BCHW: Tensor) -> Tensor:
        """Cut images into patches `(B, P, C*p*p)`, channel first as in a convolution's weight."""
        size = self.patch_size
        columns: Tensor = pixels_BCHW.unflatten(3, (-1, size))
        # One unknown size per reshape, always at the end: the graph then serves any resolution.
        cut: Tensor = columns.permute(0, 1, 3, 4, 2).unflatten(4, (-1, size))
        return cut.permute(0, 4, 2, 1, 5, 3).flatten(3).flatten(1, 2)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Classify images `(B, C, H, W)` into logits `(B, classes)`."""
        logits: Tensor = self.head(self.features(pixel_values))
        return logits

    def features(self, pixel_values: Tensor) -> Tensor:
        """What the classifier reads of each image, `(B, head_tokens * D)`."""
        x_BPD = self.patch_embed(self.patches(pixel_values))
        prefix = self.prefix().expand(x_BPD.shape[0], -1, -1)
        x_BTD = torch.cat([prefix, x_BPD], dim=1) + self.positions()
        for block, read in reading(self.path(), self.head_tokens):
            x_BTD = block(x_BTD, read)
        return self._read(x_BTD)

    def _read(self, x_BTD: Tensor) -> Tensor:
        """What the classifier sees, `(B, head_tokens * D)`.

        Two tokens alternate feature by feature, so that a narrower stream is a prefix of it.
        """
        if self.head_tokens == 1:
            read: Tensor = self.norm(x_BTD[:, 0])
            return read
        tokens: Tensor = self.norm(x_BTD[:, : self.head_tokens])
        return tokens.transpose(1, 2).flatten(1)


class ViTSuperNetwork(TransformerSuperNetwork, ViT):
    """Vision transformer with elastic depth, heads, neurons, stream width and resolution."""

    config: VitConfig
    patch_embed: ElasticLinear
    norm: ElasticLayerNorm
    head: ElasticLinear

    def __init__(self, config: VitConfig, num_labels: int) -> None:
        width, patch = config.embed_dim, config.patch_size
        ViT.__init__(
            self,
            ElasticLinear(config.channels * patch**2, width),
            torch.zeros(1, config.prefix_tokens, width),
            torch.zeros(1, config.grid**2 + config.prefix_tokens, width),
            {index: ElasticVitBlock(config) for index in range(config.depth)},
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

    def free_axes(self, space: SearchSpace) -> dict[str, dict[int, str]]:
        """Height and width, if the resolution is elastic."""
        gene = "resolution" in space.column
        return {"pixel_values": {2: "height", 3: "width"}} if gene else {}

    def example_inputs(
        self, batch_size: int = 2, sequence_length: int | None = None
    ) -> dict[str, Tensor]:
        """Black images."""
        size = self.active_size
        return {"pixel_values": torch.zeros(batch_size, self.config.channels, size, size)}

    def adapt_inputs(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Shrink images to the active resolution."""
        pixels, size = inputs["pixel_values"], self.active_size
        if pixels.shape[-1] != size:
            pixels = F.interpolate(pixels, size=(size, size), mode="bilinear", antialias=True)
        return {"pixel_values": pixels}

    def prefix(self) -> Tensor:
        """Learned tokens at the active width."""
        return self.cls_token[..., : self.active_width]

    def positions(self) -> Tensor:
        """Position embeddings at the active width, interpolated to the active resolution."""
        return self._resize(self.pos_embed[..., : self.active_width], "bicubic")

    def _resize(self, tokens_BTD: Tensor, mode: str) -> Tensor:
        """Tokens of the full resolution with their patches interpolated to the active one."""
        active_grid = self.active_size // self.patch_size
        return resize_patches(tokens_BTD, self.config.prefix_tokens, active_grid, mode)

    def resize(self, architecture: Architecture) -> None:
        """Use the sub-network of these sizes; a gene left out is at full size."""
        config = self.config
        self.active_width = size_in(architecture, "embed_dim", config.embed_dim)
        self.active_size = size_in(architecture, "resolution", config.image_size)
        self.activate_blocks(architecture)
        self.patch_embed.activate(self.patch_embed.in_features, self.active_width)
        self.norm.activate(self.active_width)
        self.head.activate(self.active_width * config.head_tokens, self.num_labels)

    def extract(self) -> ViT:
        """Copy the active sub-network into a plain ViT, in evaluation mode."""
        blocks = {index: self.block(index).extract() for index in self.active_blocks}
        return ViT(
            self.patch_embed.extract(),
            self.prefix().detach().clone(),
            self.positions().detach().clone(),
            {index: block for index, block in blocks.items() if isinstance(block, Block)},
            self.norm.extract(),
            self.head.extract(),
            self.patch_size,
            self.head_tokens,
        ).eval()

    def aligned(
        self, own: Tensor, full: Tensor, inputs: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """All tokens; at a lower resolution each patch and the mean of those it covers."""
        return own.flatten(0, 1), self._resize(full, "area").flatten(0, 1)

    def units(self) -> list[Units]:
        """The features of the stream, then heads and neurons of every block."""
        parts = [
            Part(self.patch_embed.weight, 0),
            Part(self.patch_embed.bias, 0),
            Part(self.cls_token, 2),
            Part(self.pos_embed, 2),
            *(Part(tensor, 0) for tensor in self.norm.parameters()),
            Part(self.head.weight, 1, leaves=True),
        ]
        for index in range(self.config.depth):
            block = self.block(index)
            attention, mlp = block.attention, block.mlp
            readers = (attention.query, attention.key, attention.value, mlp.fc1)
            parts += [Part(layer.weight, 1, leaves=True) for layer in readers]
            parts += [Part(t, 0) for layer in (attention.out, mlp.fc2) for t in layer.parameters()]
            parts += [Part(t, 0) for norm in block.norms for t in norm.parameters()]
        return [Units("embed_dim", self.config.embed_dim, tuple(parts)), *super().units()]

    def cost(
        self, space: SearchSpace, genomes: Genomes, sequence_length: int | None = None
    ) -> Cost:
        """Sizes, MACs and parameters of the sub-networks of `genomes` `(n, n_genes)`."""
        values, config = Values(space, genomes), self.config
        width = values.sizes("embed_dim", config.embed_dim)
        patches = (values.sizes("resolution", config.image_size) // config.patch_size) ** 2
        tokens = patches + config.prefix_tokens
        once, always = np.ones_like(width), np.ones(len(values), dtype=bool)
        extents, macs = self.block_costs(values, width, [tokens] * config.depth, config.head_tokens)
        extents["patch_embed"] = Extent(once * self.patch_embed.in_features, width, patches, always)
        extents["head"] = Extent(width * config.head_tokens, once * self.num_labels, once, always)
        # Vectors as wide as the stream: norms, learned tokens, positions.
        vectors = 4 * values.sizes("depth", config.depth) + 2 + config.prefix_tokens + tokens
        unshrunk = config.embed_dim * (vectors - tokens + config.grid**2 + config.prefix_tokens)
        narrowed = unshrunk - width * vectors
        return collect(self.layers, extents, values, width * vectors, macs, narrowed)
