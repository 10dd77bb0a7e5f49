"""ResNet, plain and as a super-network.

B batch, C channels, H height, W width
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from supernets.data.data import Batch
from supernets.families.resnet.dimensions import (
    resnet_axes,
    resnet_cost,
    resnet_genes,
    resnet_units,
)
from supernets.families.super_network import SuperNetwork
from supernets.layers.batch_norm import fold, recalibrate
from supernets.layers.coupled_units import Units
from supernets.layers.elastic import ElasticBatchNorm2d, ElasticConv2d, ElasticLinear
from supernets.settings import ResNetConfig, SpaceSettings
from supernets.space.cost import Cost
from supernets.space.dimensions import Axis
from supernets.space.space import Architecture, Gene, Genomes, SearchSpace, size_in


class Stem(nn.Module):
    """First convolution, and a pooling that some networks have."""

    def __init__(self, conv: nn.Module, norm: nn.Module, pool: bool) -> None:
        super().__init__()
        self.conv, self.norm, self.pool = conv, norm, pool

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        """Turn images into the first feature maps."""
        x_BCHW: Tensor = F.relu(self.norm(self.conv(pixels_BCHW)))
        return F.max_pool2d(x_BCHW, 3, stride=2, padding=1) if self.pool else x_BCHW


class ResidualBlock(nn.Module):
    """Two convolutions (basic) or three (bottleneck) beside a shortcut."""

    def __init__(
        self,
        convs: Sequence[nn.Module],
        norms: Sequence[nn.Module],
        shortcut: nn.Module | None = None,
        shortcut_norm: nn.Module | None = None,
    ) -> None:
        super().__init__()
        for number, (conv, norm) in enumerate(zip(convs, norms, strict=True), start=1):
            self.add_module(f"conv{number}", conv)
            self.add_module(f"norm{number}", norm)
        self.n_convs, self.shortcut, self.shortcut_norm = len(convs), shortcut, shortcut_norm

    def pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        """Each convolution of the branch with its norm, in order."""
        numbers = range(1, self.n_convs + 1)
        return [(getattr(self, f"conv{n}"), getattr(self, f"norm{n}")) for n in numbers]

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Add branch and shortcut."""
        y_BCHW = x_BCHW
        for number, (conv, norm) in enumerate(self.pairs(), start=1):
            y_BCHW = norm(conv(y_BCHW))
            y_BCHW = F.relu(y_BCHW) if number < self.n_convs else y_BCHW
        if self.shortcut is not None and self.shortcut_norm is not None:
            x_BCHW = self.shortcut_norm(self.shortcut(x_BCHW))
        return F.relu(y_BCHW + x_BCHW)


class ElasticResidualBlock(ResidualBlock):
    """Residual block of elastic layers."""

    shortcut: ElasticConv2d | None
    shortcut_norm: ElasticBatchNorm2d | None

    def __init__(self, widths: Sequence[int], strides: Sequence[int], kernels: Sequence[int]):
        convs = [
            ElasticConv2d(before, after, kernel, stride)
            for before, after, kernel, stride in zip(
                widths, widths[1:], kernels, strides, strict=False
            )
        ]
        norms = [ElasticBatchNorm2d(width) for width in widths[1:]]
        if widths[0] == widths[-1] and max(strides) == 1:
            super().__init__(convs, norms)
        else:
            shortcut = ElasticConv2d(widths[0], widths[-1], 1, max(strides))
            super().__init__(convs, norms, shortcut, ElasticBatchNorm2d(widths[-1]))

    def elastic_pairs(self) -> list[tuple[ElasticConv2d, ElasticBatchNorm2d]]:
        """Each convolution of the branch with its norm, in order."""
        return cast("list[tuple[ElasticConv2d, ElasticBatchNorm2d]]", self.pairs())

    def activate(self, in_width: int, inner_width: int, out_width: int) -> None:
        """Use the first channels before, inside and after the block."""
        widths = [in_width, *[inner_width] * (self.n_convs - 1), out_width]
        for (conv, norm), before, after in zip(
            self.elastic_pairs(), widths, widths[1:], strict=False
        ):
            conv.activate(before, after)
            norm.activate(after)
        if self.shortcut is not None and self.shortcut_norm is not None:
            self.shortcut.activate(in_width, out_width)
            self.shortcut_norm.activate(out_width)

    def extract(self) -> ResidualBlock:
        """Copy the active part into a plain block."""
        pairs = self.elastic_pairs()
        return ResidualBlock(
            [conv.extract() for conv, _ in pairs],
            [norm.extract() for _, norm in pairs],
            None if self.shortcut is None else self.shortcut.extract(),
            None if self.shortcut_norm is None else self.shortcut_norm.extract(),
        )


class ResNet(nn.Module):
    """Residual network; blocks keep the index they had in the network they come from."""

    def __init__(
        self, stem: Stem, stages: Sequence[Mapping[int, ResidualBlock]], head: nn.Linear
    ) -> None:
        super().__init__()
        self.stem = stem
        self.stages = nn.ModuleDict(
            {
                str(number): nn.ModuleDict({str(index): block for index, block in blocks.items()})
                for number, blocks in enumerate(stages)
            }
        )
        self.head = head

    def path(self) -> Iterable[nn.Module]:
        """The blocks to run, in order."""
        stages = cast("Iterable[nn.ModuleDict]", self.stages.values())
        return [block for stage in stages for block in stage.values()]

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Classify images `(B, C, H, W)` into logits `(B, classes)`."""
        logits: Tensor = self.head(self.features(pixel_values))
        return logits

    def features(self, pixel_values: Tensor) -> Tensor:
        """What the classifier reads of each image, `(B, C)`."""
        x_BCHW = self.stem(pixel_values)
        for block in self.path():
            x_BCHW = block(x_BCHW)
        pooled: Tensor = x_BCHW.mean(dim=(2, 3))
        return pooled


class ResNetSuperNetwork(SuperNetwork, ResNet):
    """ResNet with elastic blocks per stage, stage widths and inner widths."""

    config: ResNetConfig
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

    @property
    def stem_tied(self) -> bool:
        """Whether the first stage adds to the stem's channels, so that they have one width."""
        return self.block(0, 0).shortcut is None

    def example_inputs(
        self, batch_size: int = 2, sequence_length: int | None = None
    ) -> dict[str, Tensor]:
        """Black images."""
        size = self.config.image_size
        return {"pixel_values": torch.zeros(batch_size, self.config.channels, size, size)}

    def block(self, stage: int, index: int) -> ElasticResidualBlock:
        """One block."""
        block = self.get_submodule(f"stages.{stage}.{index}")
        assert isinstance(block, ElasticResidualBlock)
        return block

    def stem_layers(self) -> tuple[ElasticConv2d, ElasticBatchNorm2d]:
        """Convolution and norm of the stem."""
        conv, norm = self.stem.conv, self.stem.norm
        assert isinstance(conv, ElasticConv2d)
        assert isinstance(norm, ElasticBatchNorm2d)
        return conv, norm

    def path(self) -> Iterable[nn.Module]:
        """The active blocks, in order."""
        return [
            self.block(stage, index) for stage, kept in enumerate(self.active) for index in kept
        ]

    def activate(self, architecture: Architecture) -> None:
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

    @property
    def axes(self) -> dict[str, Axis]:
        """Blocks and width of every stage, inner width of every block."""
        return resnet_axes(self.config)

    def architecture_genes(self, settings: SpaceSettings) -> list[Gene]:
        """Blocks and width of every stage, inner width of every block."""
        return resnet_genes(self.config, settings)

    def block_path(self, depth_gene: str, index: int) -> str:
        """Module path of one block."""
        return depth_gene.removesuffix("depth") + str(index)

    def indispensable(self, block: str) -> bool:
        """The first block of a stage changes width and resolution."""
        return block.endswith(".0")

    def units(self) -> list[Units]:
        """Channels of every stage, and inner channels of every block."""
        return resnet_units(self)

    def branch_outputs(self, block: str) -> list[Tensor]:
        """Scale and shift of the branch's last norm."""
        module = self.get_submodule(block)
        assert isinstance(module, ElasticResidualBlock)
        return list(module.pairs()[-1][1].parameters())

    def cost(
        self, space: SearchSpace, genomes: Genomes, sequence_length: int | None = None
    ) -> Cost:
        """Sizes, MACs and parameters (BatchNorm folded) of `genomes` `(n, n_genes)`."""
        return resnet_cost(self, space, genomes)
