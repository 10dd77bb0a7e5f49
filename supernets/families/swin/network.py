"""Swin, plain and as a super-network.

B batch, H height and W width in patches, D width of the stream, T tokens of a window
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from torch import Tensor, nn

from supernets.families.image_positions import place_rows
from supernets.families.staged.network import StagedSuperNetwork
from supernets.families.swin.blocks import ElasticMerge, ElasticWindowBlock, Merge, WindowBlock
from supernets.families.swin.config import SwinConfig
from supernets.layers.attention import block_cost, head_units, neuron_units
from supernets.layers.composed import extracted
from supernets.layers.coupled_units import Units
from supernets.layers.elastic import ElasticLayerNorm, ElasticLinear
from supernets.space.cost import Cost, Extent, Values, collect
from supernets.space.space import Genomes, SearchSpace


class Swin(nn.Module):
    """Swin classifier; blocks keep the index they had in the network they are of."""

    def __init__(
        self,
        patch_embed: nn.Linear,
        patch_norm: nn.LayerNorm,
        stages: Sequence[Mapping[int, WindowBlock]],
        merges: Sequence[Merge],
        norm: nn.LayerNorm,
        head: nn.Linear,
        patch_size: int,
        window_size: int,
    ) -> None:
        super().__init__()
        self.patch_embed, self.patch_norm = patch_embed, patch_norm
        named = [{str(index): block for index, block in stage.items()} for stage in stages]
        self.stages = nn.ModuleList(nn.ModuleDict(stage) for stage in named)
        self.merges = nn.ModuleList(merges)
        self.norm, self.head = norm, head
        self.patch_size, self.window_size = patch_size, window_size

    def stage_paths(self) -> Iterable[Iterable[nn.Module]]:
        """The blocks of every stage to run, in order."""
        return [stage.values() for stage in self.stages if isinstance(stage, nn.ModuleDict)]

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Classify images `(B, C, H * p, W * p)` into logits `(B, classes)`."""
        logits: Tensor = self.head(self.features(pixel_values))
        return logits

    def features(self, pixel_values: Tensor) -> Tensor:
        """What the classifier reads of each image, `(B, D)`."""
        x_BHWD = self.patch_norm(self.patch_embed(self._patches(pixel_values)))
        rows_TT = place_rows(self.window_size, x_BHWD.device)
        for stage, blocks in enumerate(self.stage_paths()):
            if stage:
                x_BHWD = self.merges[stage - 1](x_BHWD)
            for block in blocks:
                x_BHWD = block(x_BHWD, rows_TT)
        pooled: Tensor = self.norm(x_BHWD).flatten(1, 2).mean(dim=1)
        return pooled

    def _patches(self, pixels_BCHW: Tensor) -> Tensor:
        """Cut images into patches `(B, H, W, C*p*p)`, channel first as a convolution's weight."""
        size = self.patch_size
        cut: Tensor = pixels_BCHW.unflatten(2, (-1, size)).unflatten(4, (-1, size))
        return cut.permute(0, 2, 4, 1, 3, 5).flatten(3)


class SwinSuperNetwork(StagedSuperNetwork[ElasticWindowBlock], Swin):
    """Swin with elastic blocks per stage, and heads and neurons per block."""

    config: SwinConfig
    patch_embed: ElasticLinear
    patch_norm: ElasticLayerNorm
    norm: ElasticLayerNorm
    head: ElasticLinear

    def __init__(self, config: SwinConfig, num_labels: int) -> None:
        widths, eps = config.stage_widths, config.layer_norm_eps
        Swin.__init__(
            self,
            ElasticLinear(config.channels * config.patch_size**2, widths[0]),
            ElasticLayerNorm(widths[0], 1e-5),
            [_stage(config, stage) for stage in range(config.stages)],
            [ElasticMerge(width) for width in widths[:-1]],
            ElasticLayerNorm(widths[-1], eps),
            ElasticLinear(widths[-1], num_labels),
            config.patch_size,
            config.window_size,
        )
        self.start(config, num_labels)

    def extract(self) -> Swin:
        """Copy the active sub-network into a plain Swin, in evaluation mode."""
        return Swin(
            self.patch_embed.extract(),
            self.patch_norm.extract(),
            self.extracted_stages(),
            [extracted(merge) for merge in self.merges],
            self.norm.extract(),
            self.head.extract(),
            self.patch_size,
            self.window_size,
        ).eval()

    def branch_outputs(self, block: str) -> list[Tensor]:
        """Weights and biases that end attention and feed-forward part."""
        module = self.block(block)
        return [*module.attention.out.parameters(), *module.mlp.fc2.parameters()]

    def aligned(
        self, own: Tensor, full: Tensor, inputs: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """All tokens."""
        return own.flatten(0, 2), full.flatten(0, 2)

    def units(self) -> list[Units]:
        """Heads and neurons of every block."""
        return [
            group
            for path in self.config.blocks
            for group in (
                head_units(path, self.block(path).attention),
                neuron_units(path, self.block(path).mlp),
            )
        ]

    def cost(
        self, space: SearchSpace, genomes: Genomes, sequence_length: int | None = None
    ) -> Cost:
        """Sizes, MACs and parameters of the sub-networks of `genomes` `(n, n_genes)`."""
        config, values = self.config, Values(space, genomes)
        once, always = np.ones(len(values), dtype=np.int64), np.ones(len(values), dtype=bool)
        widths, window = config.stage_widths, once * config.window_size**2
        rows = (2 * config.window_size - 1) ** 2
        tokens = [once * side**2 for side in config.sides]
        pixels = once * self.patch_embed.in_features
        extents = {"patch_embed": Extent(pixels, once * widths[0], tokens[0], always)}
        for stage, width in enumerate(widths[:-1]):
            wide = once * width
            extents[f"merges.{stage}.reduction"] = Extent(
                4 * wide, 2 * wide, tokens[stage + 1], always
            )
        extents["head"] = Extent(once * widths[-1], once * self.num_labels, once, always)
        parameters = once * (2 * widths[0] + 8 * sum(widths[:-1]) + 2 * widths[-1])
        macs, narrowed, present = 0 * once, 0 * once, self.kept_blocks(values)
        for path, stage in config.blocks.items():
            kept = present[path]
            heads = values.sizes(f"{path}.attention.num_heads", config.num_heads[stage])
            hidden = values.sizes(f"{path}.mlp.hidden_dim", config.neurons[stage])
            inner, wide = heads * (widths[stage] // config.num_heads[stage]), once * widths[stage]
            found, attention = block_cost(
                path, wide, inner, hidden, tokens[stage], kept, window=window
            )
            extents |= found
            macs += attention
            parameters = parameters + (4 * wide + rows * heads) * kept
            narrowed += rows * (config.num_heads[stage] - heads) * kept
        return collect(self.layers, extents, values, parameters, macs, narrowed)


def _stage(config: SwinConfig, stage: int) -> dict[int, ElasticWindowBlock]:
    """Blocks of a stage; every other one is shifted, unless one window is all of the image."""
    window = config.window_size
    shift = window // 2 if config.sides[stage] > window else 0
    return {
        index: ElasticWindowBlock(
            config.stage_widths[stage],
            config.num_heads[stage],
            config.neurons[stage],
            config.qkv_bias,
            config.layer_norm_eps,
            window,
            shift if index % 2 else 0,
        )
        for index in range(config.depths[stage])
    }
