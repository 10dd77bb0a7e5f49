"""ConvNeXt as a super-network."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from torch import Tensor

from supernets.families.convnext.blocks import (
    EPS,
    ConvNext,
    Downsample,
    ElasticConvNextBlock,
    Stem,
)
from supernets.families.convnext.config import EXPANSION, ConvNextConfig
from supernets.families.staged.network import StagedSuperNetwork
from supernets.layers.composed import extracted
from supernets.layers.coupled_units import Units, read_by, written_by
from supernets.layers.elastic import ElasticConv2d, ElasticLayerNorm, ElasticLinear
from supernets.space.cost import Cost, Extent, Values, collect
from supernets.space.space import Genomes, SearchSpace


class ConvNextSuperNetwork(StagedSuperNetwork[ElasticConvNextBlock], ConvNext):
    """ConvNeXt with elastic blocks per stage and neurons per block."""

    config: ConvNextConfig
    stem: Stem
    norm: ElasticLayerNorm
    head: ElasticLinear

    def __init__(self, config: ConvNextConfig, num_labels: int) -> None:
        widths, patch = config.stage_widths, config.patch_size
        ConvNext.__init__(
            self,
            Stem(
                ElasticConv2d(config.channels, widths[0], patch, patch, padding=0, bias=True),
                ElasticLayerNorm(widths[0], EPS),
            ),
            [
                Downsample(
                    ElasticLayerNorm(before, EPS),
                    ElasticConv2d(before, after, 2, 2, padding=0, bias=True),
                )
                for before, after in pairwise(widths)
            ],
            [
                {
                    index: ElasticConvNextBlock(width, EXPANSION * width, config.response_norm)
                    for index in range(depth)
                }
                for width, depth in zip(widths, config.depths, strict=True)
            ],
            ElasticLayerNorm(widths[-1], config.layer_norm_eps),
            ElasticLinear(widths[-1], num_labels),
        )
        self.start(config, num_labels)

    def extract(self) -> ConvNext:
        """Copy the active sub-network into a plain ConvNeXt, in evaluation mode."""
        return ConvNext(
            extracted(self.stem),
            [extracted(module) for module in self.downsamples.values()],
            self.extracted_stages(),
            self.norm.extract(),
            self.head.extract(),
        ).eval()

    def branch_outputs(self, block: str) -> list[Tensor]:
        """Weights and biases of the branch's last layer."""
        return list(self.block(block).fc2.parameters())

    def units(self) -> list[Units]:
        """Neurons of every block."""
        return [_neurons(path, self.block(path)) for path in self.config.elastic_inner_widths]

    def cost(
        self, space: SearchSpace, genomes: Genomes, sequence_length: int | None = None
    ) -> Cost:
        """Sizes, MACs and parameters of the sub-networks of `genomes` `(n, n_genes)`."""
        config, values = self.config, Values(space, genomes)
        once, always = np.ones(len(values), dtype=np.int64), np.ones(len(values), dtype=bool)
        extents, parameters = {}, 2 * once * config.stage_widths[-1]
        narrowed, before, present = 0 * once, config.channels, self.kept_blocks(values)
        for stage, (width, side) in enumerate(zip(config.stage_widths, config.sides, strict=True)):
            name = f"downsamples.{stage}.conv" if stage else "stem.conv"
            wide, pixels = once * width, once * side**2
            extents[name] = Extent(once * before, wide, pixels, always)
            parameters = parameters + 2 * (before if stage else width)
            for path in config.blocks_of(stage):
                kept = present[path]
                inner = values.sizes(f"{path}.inner_width", EXPANSION * width)
                extents[f"{path}.conv"] = Extent(once, wide, pixels, kept)
                extents[f"{path}.fc1"] = Extent(wide, inner, pixels, kept)
                extents[f"{path}.fc2"] = Extent(inner, wide, pixels, kept)
                parameters = parameters + 2 * (width + inner * config.response_norm) * kept
                narrowed += 2 * (EXPANSION * width - inner) * config.response_norm * kept
            before = width
        extents["head"] = Extent(once * before, once * self.num_labels, once, always)
        return collect(self.layers, extents, values, parameters, 0 * once, narrowed)


def _neurons(path: str, block: ElasticConvNextBlock) -> Units:
    parts = (*written_by(block.fc1, block.response_norm), read_by(block.fc2))
    return Units(f"{path}.inner_width", block.fc1.out_features, parts)
