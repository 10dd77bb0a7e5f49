"""RegNet as a super-network."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from supernets.families.regnet.blocks import ElasticRegNetBlock
from supernets.families.regnet.config import RegNetConfig
from supernets.families.resnet.blocks import Stem
from supernets.families.staged.network import StagedSuperNetwork
from supernets.families.staged.plain import StagedNetwork
from supernets.layers.composed import extracted
from supernets.layers.coupled_units import Units
from supernets.layers.elastic import ElasticBatchNorm2d, ElasticConv2d, ElasticLinear
from supernets.space.cost import Cost, Extent, Values, collect
from supernets.space.space import Genomes, SearchSpace


class RegNetSuperNetwork(StagedSuperNetwork[ElasticRegNetBlock], StagedNetwork):
    """RegNet with elastic blocks per stage and groups per block."""

    config: RegNetConfig
    stem: Stem
    head: ElasticLinear

    def __init__(self, config: RegNetConfig, num_labels: int) -> None:
        stem = ElasticConv2d(config.channels, config.stem_width, 3, 2)
        StagedNetwork.__init__(
            self,
            Stem(stem, ElasticBatchNorm2d(config.stem_width), pool=False),
            [
                {
                    index: ElasticRegNetBlock(
                        config.width_before(stage, index),
                        width,
                        config.stride(stage, index),
                        config.groups(stage),
                        config.squeeze,
                    )
                    for index in range(config.depths[stage])
                }
                for stage, width in enumerate(config.stage_widths)
            ],
            ElasticLinear(config.stage_widths[-1], num_labels),
        )
        self.start(config, num_labels)

    def extract(self) -> StagedNetwork:
        """Copy the active sub-network into a plain RegNet, in evaluation mode."""
        stages, head = self.extracted_stages(), self.head.extract()
        return StagedNetwork(extracted(self.stem), stages, head).eval()

    def indispensable(self, block: str) -> bool:
        """Whether a block changes width or resolution."""
        return self.block(block).shortcut is not None

    def branch_outputs(self, block: str) -> list[Tensor]:
        """Scale and shift of the branch's last norm."""
        return list(self.block(block).norm3.parameters())

    def units(self) -> list[Units]:
        """Groups of every block."""
        return [
            self.block(gene.removesuffix(".groups")).group_units(gene)
            for gene in self.config.elastic_groups
        ]

    def cost(
        self, space: SearchSpace, genomes: Genomes, sequence_length: int | None = None
    ) -> Cost:
        """Sizes, MACs and parameters of the sub-networks, BatchNorm folded into biases."""
        config, values = self.config, Values(space, genomes)
        once, always = np.ones(len(values), dtype=np.int64), np.ones(len(values), dtype=bool)
        side, present = -(-config.image_size // 2), self.kept_blocks(values)
        channels, stem = once * config.channels, once * config.stem_width
        extents = {"stem.conv": Extent(channels, stem, once * side**2, always)}
        for stage, width in enumerate(config.stage_widths):
            wide, group = once * width, width // config.groups(stage)
            for index, path in enumerate(config.blocks_of(stage)):
                kept = present[path]
                inner = values.sizes(f"{path}.groups", config.groups(stage)) * group
                before = once * config.width_before(stage, index)
                pixels = once * side**2
                side = -(-side // config.stride(stage, index))
                after = once * side**2
                extents[f"{path}.conv1"] = Extent(before, inner, pixels, kept)
                extents[f"{path}.conv2"] = Extent(once * group, inner, after, kept)
                if config.squeeze:
                    squeezed = once * round(config.width_before(stage, index) / 4)
                    extents[f"{path}.squeeze.reduce"] = Extent(inner, squeezed, once, kept)
                    extents[f"{path}.squeeze.expand"] = Extent(squeezed, inner, once, kept)
                extents[f"{path}.conv3"] = Extent(inner, wide, after, kept)
                if self.block(path).shortcut is not None:
                    extents[f"{path}.shortcut"] = Extent(before, wide, after, kept)
        extents["head"] = Extent(wide, once * self.num_labels, once, always)
        return collect(self.layers, extents, values, 0 * once, 0 * once)
