"""ResNet as a super-network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from supernets.data.data import Batch
from supernets.families.resnet.blocks import ElasticResidualBlock, ResNet, Stem
from supernets.families.resnet.config import ResNetConfig
from supernets.families.resnet.dimensions import ResNetDimensions
from supernets.layers.batch_norm import fold, recalibrate
from supernets.layers.elastic import ElasticBatchNorm2d, ElasticConv2d, ElasticLinear
from supernets.space.space import Architecture, size_in


class ResNetSuperNetwork(ResNetDimensions):
    """ResNet with elastic blocks per stage, stage widths and inner widths."""

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
        ResNet.__init__(self, stem, stages, ElasticLinear(config.stage_widths[-1], num_labels))
        self.config, self.num_labels = config, num_labels
        self.block_order = {
            f"stages.{stage}.depth": list(range(depth)) for stage, depth in enumerate(config.depths)
        }
        self.activate({})

    @property
    def dynamic_axes(self) -> dict[str, dict[int, str]]:
        """Only the batch varies."""
        return {"pixel_values": {0: "batch"}, "logits": {0: "batch"}}

    def example_inputs(
        self, batch_size: int = 2, sequence_length: int | None = None
    ) -> dict[str, Tensor]:
        """Black images."""
        size = self.config.image_size
        return {"pixel_values": torch.zeros(batch_size, self.config.channels, size, size)}

    def path(self) -> Iterable[nn.Module]:
        """The active blocks, in order."""
        return [
            self.block(stage, index) for stage, kept in enumerate(self.active) for index in kept
        ]

    def resize(self, architecture: Architecture) -> None:
        """Use the sub-network of these sizes; a gene left out is at full size."""
        config = self.config
        widths = [
            size_in(architecture, f"stages.{stage}.width", full)
            for stage, full in enumerate(config.stage_widths)
        ]
        before = widths[0] if self.stem_tied else config.stem_width
        conv, norm = self.stem_layers()
        conv.activate(config.channels, before)
        norm.activate(before)
        self.active = []
        for stage, width in enumerate(widths):
            gene = f"stages.{stage}.depth"
            kept = self.kept_blocks(gene, size_in(architecture, gene, config.depths[stage]))
            self.active.append(kept)
            for index in kept:
                inner = size_in(
                    architecture, f"stages.{stage}.{index}.inner_width", config.inner_widths[stage]
                )
                self.block(stage, index).activate(before, inner, width)
                before = width
        self.head.activate(before, self.num_labels)
        for module in self.modules():
            if isinstance(module, ElasticBatchNorm2d):
                module.track = not architecture

    def extract(self) -> ResNet:
        """Copy the active sub-network into a plain ResNet, in evaluation mode."""
        conv, norm = self.stem_layers()
        stages = [
            {index: self.block(stage, index).extract() for index in kept}
            for stage, kept in enumerate(self.active)
        ]
        stem = Stem(conv.extract(), norm.extract(), self.config.stem_pool)
        return ResNet(stem, stages, self.head.extract()).eval()

    def aligned(
        self, own: Tensor, full: Tensor, inputs: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """All pixels."""
        return own.movedim(1, 3).flatten(0, 2), full.movedim(1, 3).flatten(0, 2)

    def deploy(self, calibration: Iterable[Batch] = ()) -> ResNet:
        """Extract, take BatchNorm statistics anew from `calibration`, and fold them."""
        plain = self.extract()
        recalibrate(plain, calibration)
        return fold(plain)

    def block_path(self, depth_gene: str, index: int) -> str:
        """Module path of one block."""
        return depth_gene.removesuffix("depth") + str(index)

    def indispensable(self, block: str) -> bool:
        """The first block of a stage changes width and resolution."""
        return block.endswith(".0")

    def branch_outputs(self, block: str) -> list[Tensor]:
        """Scale and shift of the branch's last norm."""
        module = self.get_submodule(block)
        assert isinstance(module, ElasticResidualBlock)
        return list(module.pairs()[-1][1].parameters())
