"""A network of inverted residual blocks as a super-network."""

from __future__ import annotations

from itertools import takewhile

import numpy as np
from torch import Tensor, nn

from supernets.families.inverted_residual.blocks import (
    ElasticInvertedResidual,
    InvertedResidualNet,
    Stem,
    convolution,
    padding,
)
from supernets.families.inverted_residual.sizes import Convolution, InvertedResidualSizes
from supernets.families.staged.network import StagedSuperNetwork
from supernets.layers.composed import extracted
from supernets.layers.coupled_units import Units
from supernets.layers.elastic import ElasticBatchNorm2d, ElasticLinear
from supernets.space.cost import Cost, Extent, Values, collect
from supernets.space.space import Genomes, SearchSpace


class InvertedResidualSuperNetwork(
    StagedSuperNetwork[ElasticInvertedResidual], InvertedResidualNet
):
    """Network of inverted residual blocks with elastic depth per stage and inner widths.

    Stages have blocks with consecutive numbers; a block with a name of its own always runs first.
    """

    config: InvertedResidualSizes
    stem: Stem
    head: ElasticLinear

    def __init__(
        self,
        config: InvertedResidualSizes,
        num_labels: int,
        activation: type[nn.Module],
    ) -> None:
        eps, plan, pixel = config.batch_norm_eps, config.plan, Convolution(1, 1, (0, 0), 1)
        last, top_width = plan[-1].out_width, config.top_width
        InvertedResidualNet.__init__(
            self,
            Stem(
                padding(config.stem),
                convolution(config.channels, config.stem_width, config.stem),
                ElasticBatchNorm2d(config.stem_width, eps),
                activation(),
            ),
            {block.name: ElasticInvertedResidual(block, eps, activation) for block in plan},
            Stem(
                nn.Identity(),
                convolution(last, top_width, pixel),
                ElasticBatchNorm2d(top_width, eps),
                activation(),
            ),
            ElasticLinear(top_width, num_labels),
        )
        self.start(config, num_labels)

    def block_path(self, depth_gene: str, index: int) -> str:
        """Module path of one block."""
        earlier = takewhile(lambda gene: gene != depth_gene, self.block_order)
        first = sum(len(self.block_order[gene]) for gene in earlier)
        return f"blocks.{first + index}"

    def path(self) -> list[nn.Module]:
        """The active blocks, in order."""
        named = [self.block(plan.path) for plan in self.config.plan if not plan.name.isdigit()]
        return [*named, *super().path()]

    def extract(self) -> InvertedResidualNet:
        """Copy the active sub-network into a plain network, in evaluation mode."""
        active = self.path()
        blocks = {
            plan.name: self.block(plan.path).extract()
            for plan in self.config.plan
            if self.block(plan.path) in active
        }
        stem, top = extracted(self.stem), extracted(self.top)
        return InvertedResidualNet(stem, blocks, top, self.head.extract()).eval()

    def indispensable(self, block: str) -> bool:
        """Whether there is no shortcut beside a block."""
        return not self.block(block).residual

    def branch_outputs(self, block: str) -> list[Tensor]:
        """Scale and shift of the branch's last norm."""
        return list(self.block(block).project_norm.parameters())

    def units(self) -> list[Units]:
        """Inner channels of every block that widens."""
        return [self.block(path).inner_units(path) for path in self.config.elastic_inner_widths]

    def cost(
        self, space: SearchSpace, genomes: Genomes, sequence_length: int | None = None
    ) -> Cost:
        """Sizes, MACs and parameters of the sub-networks, BatchNorm folded into biases."""
        config, values = self.config, Values(space, genomes)
        once, always = np.ones(len(values), dtype=np.int64), np.ones(len(values), dtype=bool)
        kept, pixels = self.kept_blocks(values), once * config.stem.out_side**2
        extents = {
            "stem.conv": Extent(once * config.channels, once * config.stem_width, pixels, always)
        }
        for plan in config.plan:
            path, present = plan.path, kept.get(plan.path, always)
            wide, narrow = once * plan.in_width, once * plan.out_width
            inner = values.sizes(f"{path}.inner_width", plan.inner_width)
            if plan.expands:
                extents[f"{path}.expand_conv"] = Extent(wide, inner, pixels, present)
            pixels = once * plan.depthwise.out_side**2
            extents[f"{path}.depthwise_conv"] = Extent(once, inner, pixels, present)
            if plan.squeezed:
                squeezed = once * plan.squeezed
                extents[f"{path}.squeeze.reduce"] = Extent(inner, squeezed, once, present)
                extents[f"{path}.squeeze.expand"] = Extent(squeezed, inner, once, present)
            extents[f"{path}.project_conv"] = Extent(inner, narrow, pixels, present)
        top = once * config.top_width
        extents["top.conv"] = Extent(narrow, top, pixels, always)
        extents["head"] = Extent(top, once * self.num_labels, once, always)
        return collect(self.layers, extents, values, 0 * once, 0 * once)
