"""ResNet as a super-network."""

from __future__ import annotations

from torch import Tensor

from supernets.families.resnet.blocks import ElasticResidualBlock, ResNet, Stem
from supernets.families.resnet.config import ResNetConfig
from supernets.families.resnet.dimensions import ResNetDimensions
from supernets.layers.elastic import ElasticBatchNorm2d, ElasticConv2d, ElasticLinear


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
        self.start(config, num_labels)

    def extract(self) -> ResNet:
        """Copy the active sub-network into a plain ResNet, in evaluation mode."""
        conv, norm = self.stem_layers()
        stages = [
            {index: self.block(stage, index).extract() for index in kept}
            for stage, kept in enumerate(self.active.values())
        ]
        stem = Stem(conv.extract(), norm.extract(), self.config.stem_pool)
        return ResNet(stem, stages, self.head.extract()).eval()

    def indispensable(self, block: str) -> bool:
        """The first block of a stage changes width and resolution."""
        return block.endswith(".0")

    def branch_outputs(self, block: str) -> list[Tensor]:
        """Scale and shift of the branch's last norm."""
        module = self.get_submodule(block)
        assert isinstance(module, ElasticResidualBlock)
        return list(module.pairs()[-1][1].parameters())
