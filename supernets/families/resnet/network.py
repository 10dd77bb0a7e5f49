"""ResNet as a super-network."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from torch import Tensor, nn

from supernets.families.resnet.blocks import ElasticResidualBlock, Stem
from supernets.families.resnet.config import ResNetConfig
from supernets.families.staged.network import StagedSuperNetwork
from supernets.families.staged.plain import StagedNetwork
from supernets.layers.composed import extracted
from supernets.layers.coupled_units import Part, Units, read_by, written_by
from supernets.layers.elastic import ElasticBatchNorm2d, ElasticConv2d, ElasticLinear
from supernets.space.cost import Cost, Counts, Extent, Values, collect
from supernets.space.space import Genomes, SearchSpace


class ResNetSuperNetwork(StagedSuperNetwork[ElasticResidualBlock], StagedNetwork):
    """ResNet with elastic blocks per stage, stage widths and inner widths."""

    config: ResNetConfig
    stem: Stem
    head: ElasticLinear

    def __init__(self, config: ResNetConfig, num_labels: int) -> None:
        stem = Stem(
            ElasticConv2d(
                config.channels, config.stem_width, config.stem_kernel, config.stem_stride
            ),
            ElasticBatchNorm2d(config.stem_width),
            config.stem_pool,
        )
        stages = [
            {
                index: ElasticResidualBlock(
                    config.block_widths(stage, index),
                    config.block_strides(stage, index),
                    config.block_kernels,
                )
                for index in range(config.depths[stage])
            }
            for stage in range(config.stages)
        ]
        head = ElasticLinear(config.stage_widths[-1], num_labels)
        StagedNetwork.__init__(self, stem, stages, head)
        self.start(config, num_labels)

    def extract(self) -> StagedNetwork:
        """Copy the active sub-network into a plain ResNet, in evaluation mode."""
        stages, head = self.extracted_stages(), self.head.extract()
        return StagedNetwork(extracted(self.stem), stages, head).eval()

    def indispensable(self, block: str) -> bool:
        """The first block of a stage changes width and resolution."""
        return block.endswith(".0")

    def branch_outputs(self, block: str) -> list[Tensor]:
        """Scale and shift of the branch's last norm."""
        return list(self.block(block).pairs()[-1][1].parameters())

    @property
    def stem_tied(self) -> bool:
        """Whether the first stage adds to the stem's channels, so that they have one width."""
        return self.block("stages.0.0").shortcut is None

    def units(self) -> list[Units]:
        """Channels of every stage, and inner channels of every block."""
        groups = []
        for stage in range(self.config.stages):
            groups.append(self._stage_units(stage))
            for path in self.config.blocks_of(stage):
                groups += _inner_units(path, self.block(path))
        return groups

    def _stage_units(self, stage: int) -> Units:
        parts: list[Part] = []
        for block in map(self.block, self.config.blocks_of(stage)):
            parts += written_by(*block.pairs()[-1])
            if block.shortcut is not None and block.shortcut_norm is not None:
                parts += written_by(block.shortcut, block.shortcut_norm)
        if stage == 0 and self.stem_tied:
            parts += written_by(self.stem.conv, self.stem.norm)
        parts += [read_by(reader) for reader in self._stage_readers(stage)]
        return Units(f"stages.{stage}.width", self.config.stage_widths[stage], tuple(parts))

    def _stage_readers(self, stage: int) -> Iterator[ElasticConv2d | nn.Linear]:
        """Layers that read the stage's channels."""
        first = 0 if stage == 0 and self.stem_tied else 1
        for path in self.config.blocks_of(stage)[first:]:
            yield self.block(path).elastic_pairs()[0][0]
        if stage + 1 == self.config.stages:
            yield self.head
            return
        following = self.block(f"stages.{stage + 1}.0")
        yield following.elastic_pairs()[0][0]
        assert following.shortcut is not None, "a stage begins by changing width or resolution"
        yield following.shortcut

    def cost(
        self, space: SearchSpace, genomes: Genomes, sequence_length: int | None = None
    ) -> Cost:
        """Sizes, MACs and parameters of the sub-networks, BatchNorm folded into biases."""
        config, values = self.config, Values(space, genomes)
        once, always = np.ones(len(values), dtype=np.int64), np.ones(len(values), dtype=bool)
        present = self.kept_blocks(values)
        widths = [
            values.sizes(f"stages.{stage}.width", full)
            for stage, full in enumerate(config.stage_widths)
        ]
        before = widths[0] if self.stem_tied else once * config.stem_width
        side = -(-config.image_size // config.stem_stride)
        extents = {"stem.conv": Extent(once * config.channels, before, once * side**2, always)}
        side = -(-side // 2) if config.stem_pool else side
        for stage, width in enumerate(widths):
            for index, path in enumerate(config.blocks_of(stage)):
                block, kept = self.block(path), present[path]
                inner = values.sizes(f"{path}.inner_width", config.inner_widths[stage])
                sizes = [before, *[inner] * (block.n_convs - 1), width]
                sides = [side]
                for stride in config.block_strides(stage, index):
                    sides.append(-(-sides[-1] // stride))
                for number, after in enumerate(sizes[1:], start=1):
                    uses: Counts = once * sides[number] ** 2
                    extents[f"{path}.conv{number}"] = Extent(sizes[number - 1], after, uses, kept)
                if block.shortcut is not None:
                    extents[f"{path}.shortcut"] = Extent(before, width, once * sides[-1] ** 2, kept)
                before, side = width, sides[-1]
        extents["head"] = Extent(before, once * self.num_labels, once, always)
        return collect(self.layers, extents, values, 0 * once, 0 * once)


def _inner_units(path: str, block: ElasticResidualBlock) -> Iterator[Units]:
    pairs = block.elastic_pairs()
    for (conv, norm), (reader, _) in pairwise(pairs):
        parts = (*written_by(conv, norm), read_by(reader))
        yield Units(f"{path}.inner_width", conv.out_channels, parts)
