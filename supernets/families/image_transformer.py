"""A transformer of image patches, plain and as a super-network; its sizes say which.

B batch, C channels, P patches, T tokens (prefix and patches), D embed_dim, N heads
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from supernets.families.image_positions import relative_rows, resize_patches
from supernets.families.sizes import ImageTransformerSizes
from supernets.families.transformer import ElasticBlock, TransformerSuperNetwork, reading
from supernets.layers.activations import ACTIVATIONS
from supernets.layers.attention import Attention, ElasticAttention, ElasticFeedForward, FeedForward
from supernets.layers.composed import extracted
from supernets.layers.coupled_units import Part, Units, read_by, written_by
from supernets.layers.elastic import ElasticLayerNorm, ElasticLinear
from supernets.space.cost import Cost, Extent, Values, collect
from supernets.space.space import RESOLUTION, Genomes, SearchSpace


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(
        self, norm1: nn.LayerNorm, attention: Attention, norm2: nn.LayerNorm, mlp: FeedForward
    ) -> None:
        super().__init__()
        self.norm1, self.attention, self.norm2, self.mlp = norm1, attention, norm2, mlp

    def forward(
        self, x_BTD: Tensor, read: int | None = None, rows_TT: Tensor | None = None
    ) -> Tensor:
        """Add attention, then the feed-forward part; of the first `read` tokens.

        rows_TT: rows of the table of relative places, where attention has one.
        """
        bias = self.attention.bias
        mask = None if bias is None or rows_TT is None else bias(rows_TT[:read])
        x_BTD = x_BTD[:, :read] + self.attention(self.norm1(x_BTD), mask, read)
        out: Tensor = x_BTD + self.mlp(self.norm2(x_BTD))
        return out


class ElasticPreNormBlock(ElasticBlock, Block):
    """Pre-norm block of elastic layers."""

    attention: ElasticAttention
    mlp: ElasticFeedForward
    norm1: ElasticLayerNorm
    norm2: ElasticLayerNorm

    def __init__(self, config: ImageTransformerSizes) -> None:
        width, eps = config.embed_dim, config.layer_norm_eps
        rows = (2 * config.grid - 1) ** 2 + 3 if config.relative_positions else 0
        activation = ACTIVATIONS[config.activation]()
        inner_eps = eps if config.inner_norms else None
        Block.__init__(
            self,
            ElasticLayerNorm(width, eps),
            ElasticAttention(
                width,
                config.num_heads,
                config.head_dim,
                config.qkv_biases,
                rows,
                norm_eps=inner_eps,
            ),
            ElasticLayerNorm(width, eps),
            ElasticFeedForward(
                width, config.hidden_dim, activation, config.gated, norm_eps=inner_eps
            ),
        )

    @property
    def norms(self) -> tuple[ElasticLayerNorm, ElasticLayerNorm]:
        """The norms before attention and feed-forward part."""
        return self.norm1, self.norm2


class ImageTransformer(nn.Module):
    """Classifier of images in patches; blocks keep the index they had in the network they are of.

    Parts that `config` does without are None.
    """

    def __init__(
        self,
        config: ImageTransformerSizes,
        patch_embed: nn.Linear,
        cls_token: Tensor | None,
        pos_embed: Tensor | None,
        first_norm: nn.LayerNorm | None,
        blocks: Mapping[int, Block],
        norm: nn.LayerNorm | None,
        head: nn.Linear,
    ) -> None:
        super().__init__()
        self.config, self.patch_embed = config, patch_embed
        self.cls_token = None if cls_token is None else nn.Parameter(cls_token)
        self.pos_embed = None if pos_embed is None else nn.Parameter(pos_embed)
        self.first_norm = first_norm
        self.blocks = nn.ModuleDict({str(index): block for index, block in blocks.items()})
        self.norm, self.head = norm, head

    def path(self) -> Sequence[nn.Module]:
        """The blocks to run, in order."""
        return list(self.blocks.values())

    def prefix(self) -> Tensor | None:
        """Learned tokens before the patches, `(1, prefix, D)`."""
        return self.cls_token

    def positions(self) -> Tensor | None:
        """Position embeddings of all tokens, `(1, T, D)`."""
        return self.pos_embed

    def patches(self, pixels_BCHW: Tensor) -> Tensor:
        """Cut images into patches `(B, P, C*p*p)`, channel first as in a convolution's weight."""
        size = self.config.patch_size
        columns: Tensor = pixels_BCHW.unflatten(3, (-1, size))
        # One unknown size per reshape, always at the end: the graph then serves any resolution.
        cut: Tensor = columns.permute(0, 1, 3, 4, 2).unflatten(4, (-1, size))
        return cut.permute(0, 4, 2, 1, 5, 3).flatten(3).flatten(1, 2)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Classify images `(B, C, H, W)` into logits `(B, classes)`."""
        logits: Tensor = self.head(self.features(pixel_values))
        return logits

    def features(self, pixel_values: Tensor) -> Tensor:
        """What the classifier reads of each image, `(B, pooled_vectors * D)`."""
        x_BTD, config = self._embed(pixel_values), self.config
        rows = relative_rows(config.grid, x_BTD.device) if config.relative_positions else None
        read = config.pooled_vectors if config.pooling == "first" else None
        for block, tokens in reading(self.path(), read):
            x_BTD = block(x_BTD, tokens, rows)
        return self._read(x_BTD)

    def _embed(self, pixel_values: Tensor) -> Tensor:
        """Tokens `(B, T, D)` of images."""
        x_BTD: Tensor = self.patch_embed(self.patches(pixel_values))
        prefix, positions = self.prefix(), self.positions()
        if prefix is not None:
            x_BTD = torch.cat([prefix.expand(x_BTD.shape[0], -1, -1), x_BTD], dim=1)
        if positions is not None:
            x_BTD = x_BTD + positions
        return x_BTD if self.first_norm is None else self.first_norm(x_BTD)

    def _read(self, x_BTD: Tensor) -> Tensor:
        """What the classifier sees, `(B, pooled_vectors * D)`.

        Two vectors alternate feature by feature, so that a narrower stream is a prefix of it.
        """
        config = self.config
        if config.pooling == "first" and config.pooled_vectors == 1:
            return self._normalised(x_BTD[:, 0])
        if config.pooling == "first":
            return self._normalised(x_BTD[:, : config.pooled_vectors]).transpose(1, 2).flatten(1)
        if config.last_norm == "tokens":
            x_BTD = self._normalised(x_BTD)
        mean = x_BTD[:, config.prefix :].mean(dim=1)
        if config.last_norm == "pooled":
            mean = self._normalised(mean)
        both = config.pooling == "both"
        return torch.stack([x_BTD[:, 0], mean], dim=2).flatten(1) if both else mean

    def _normalised(self, x: Tensor) -> Tensor:
        assert self.norm is not None
        out: Tensor = self.norm(x)
        return out


class ImageSuperNetwork(TransformerSuperNetwork, ImageTransformer):
    """Transformer of patches with elastic depth, heads, neurons, stream width and resolution."""

    config: ImageTransformerSizes
    patch_embed: ElasticLinear
    first_norm: ElasticLayerNorm | None
    norm: ElasticLayerNorm | None
    head: ElasticLinear

    def __init__(self, config: ImageTransformerSizes, num_labels: int) -> None:
        width, patch, prefix = config.embed_dim, config.patch_size, config.prefix
        tokens = config.grid**2 + prefix

        def norm(needed: bool) -> ElasticLayerNorm | None:
            return ElasticLayerNorm(width, config.layer_norm_eps) if needed else None

        ImageTransformer.__init__(
            self,
            config,
            ElasticLinear(config.channels * patch**2, width, bias=config.patch_bias),
            torch.zeros(1, prefix, width) if prefix else None,
            torch.zeros(1, tokens, width) if config.absolute_positions else None,
            norm(config.norm_before_blocks),
            {index: ElasticPreNormBlock(config) for index in range(config.depth)},
            norm(config.last_norm is not None),
            ElasticLinear(width * config.pooled_vectors, num_labels),
        )
        self.active_size = config.image_size
        self.start(config, num_labels)

    @property
    def dynamic_axes(self) -> dict[str, dict[int, str]]:
        """Only the batch varies."""
        return {"pixel_values": {0: "batch"}, "logits": {0: "batch"}}

    def free_axes(self, space: SearchSpace) -> dict[str, dict[int, str]]:
        """Height and width, if the resolution is elastic."""
        gene = RESOLUTION in space.column
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

    @property
    def norms(self) -> list[ElasticLayerNorm]:
        """The norms outside the blocks."""
        return [norm for norm in (self.first_norm, self.norm) if norm is not None]

    def prefix(self) -> Tensor | None:
        """Learned tokens at the active width."""
        return (
            None if self.cls_token is None else self.cls_token[..., : self.patch_embed.active_out]
        )

    def positions(self) -> Tensor | None:
        """Position embeddings at the active width, interpolated to the active resolution."""
        if self.pos_embed is None:
            return None
        return self._resize(self.pos_embed[..., : self.patch_embed.active_out], "bicubic")

    def _resize(self, tokens_BTD: Tensor, mode: str) -> Tensor:
        """Tokens of the full resolution with their patches interpolated to the active one."""
        config, grid = self.config, self.active_size // self.config.patch_size
        smooth = config.smooth_positions and mode == "bicubic"
        return resize_patches(tokens_BTD, config.prefix, grid, mode, smooth)

    def extract(self) -> ImageTransformer:
        """Copy the active sub-network into a plain one, in evaluation mode."""
        prefix, positions = self.prefix(), self.positions()
        return ImageTransformer(
            self.config,
            self.patch_embed.extract(),
            None if prefix is None else prefix.detach().clone(),
            None if positions is None else positions.detach().clone(),
            extracted(self.first_norm),
            {index: self.block(index).extract() for index in self.active_blocks},
            extracted(self.norm),
            self.head.extract(),
        ).eval()

    def aligned(
        self, own: Tensor, full: Tensor, inputs: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """All tokens; at a lower resolution each patch and the mean of those it covers."""
        return own.flatten(0, 1), self._resize(full, "area").flatten(0, 1)

    def units(self) -> list[Units]:
        """The features of the stream, then heads and neurons of every block."""
        parts = [
            *written_by(self.patch_embed, *self.norms),
            *(Part(t, 2) for t in (self.cls_token, self.pos_embed) if t is not None),
            read_by(self.head),
        ]
        for index in range(self.config.depth):
            block = self.block(index)
            attention, mlp = block.attention, block.mlp
            readers = (attention.query, attention.key, attention.value, *mlp.into_neurons)
            parts += map(read_by, readers)
            parts += written_by(attention.out, mlp.fc2, *block.norms)
        return [Units("embed_dim", self.config.embed_dim, tuple(parts)), *super().units()]

    def cost(
        self, space: SearchSpace, genomes: Genomes, sequence_length: int | None = None
    ) -> Cost:
        """Sizes, MACs and parameters of the sub-networks of `genomes` `(n, n_genes)`."""
        values, config = Values(space, genomes), self.config
        width = values.sizes("embed_dim", config.embed_dim)
        patches = (values.sizes(RESOLUTION, config.image_size) // config.patch_size) ** 2
        tokens = patches + config.prefix
        once, always = np.ones_like(width), np.ones(len(values), dtype=bool)
        read = config.pooled_vectors if config.pooling == "first" else tokens
        extents, macs = self.block_costs(values, width, [tokens] * config.depth, read)
        extents["patch_embed"] = Extent(once * self.patch_embed.in_features, width, patches, always)
        extents["head"] = Extent(
            width * config.pooled_vectors, once * self.num_labels, once, always
        )
        # Vectors as wide as the stream: norms, learned tokens, positions.
        placed, most = (count * config.absolute_positions for count in (tokens, self._tokens))
        depth = values.sizes("depth", config.depth)
        vectors = 4 * depth + 2 * len(self.norms) + config.prefix
        within, unused = self.inner_parameters(values)
        others = width * (vectors + placed) + within
        narrowed = config.embed_dim * (vectors + most) - width * (vectors + placed) + unused
        return collect(self.layers, extents, values, others, macs, narrowed)

    @property
    def _tokens(self) -> int:
        """All tokens at the full resolution."""
        return self.config.grid**2 + self.config.prefix
