"""What convolutional networks share as super-networks: stages that can lose blocks, BatchNorm."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from supernets.data.data import Batch
from supernets.families.sizes import ImageSizes
from supernets.families.super_network import SuperNetwork
from supernets.layers.batch_norm import fold, recalibrate
from supernets.layers.elastic import ElasticBatchNorm2d
from supernets.space.space import Architecture, size_in


class StagedSuperNetwork(SuperNetwork):
    """A convolutional network of stages.

    `active` are the indices of the blocks that each stage keeps, in the order they run.
    """

    config: ImageSizes
    active: list[list[int]]

    def start(self, config: ImageSizes, num_labels: int, depths: Sequence[int]) -> None:
        """Remember the sizes and use all of the network, once its modules are there."""
        self.config, self.num_labels = config, num_labels
        self.block_order = {
            f"stages.{stage}.depth": list(range(depth)) for stage, depth in enumerate(depths)
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

    def block_path(self, depth_gene: str, index: int) -> str:
        """Module path of one block."""
        return depth_gene.removesuffix("depth") + str(index)

    def path(self) -> Iterable[nn.Module]:
        """The active blocks, in order."""
        return [
            self.get_submodule(self.block_path(gene, index))
            for gene, kept in zip(self.block_order, self.active, strict=True)
            for index in kept
        ]

    def resize(self, architecture: Architecture) -> None:
        """Use the sub-network of these sizes; a gene left out is at full size."""
        self.active = [
            self.kept_blocks(gene, size_in(architecture, gene, len(order)))
            for gene, order in self.block_order.items()
        ]
        self.resize_layers(architecture)
        for module in self.modules():
            if isinstance(module, ElasticBatchNorm2d):
                module.track = not architecture

    @abstractmethod
    def resize_layers(self, architecture: Architecture) -> None:
        """Set the sizes of all layers outside blocks, and of the active blocks'."""

    def aligned(
        self, own: Tensor, full: Tensor, inputs: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """All pixels."""
        return own.movedim(1, 3).flatten(0, 2), full.movedim(1, 3).flatten(0, 2)

    def deploy(self, calibration: Iterable[Batch] = ()) -> nn.Module:
        """Extract, take BatchNorm statistics anew from `calibration`, and fold them."""
        plain = self.extract()
        recalibrate(plain, calibration)
        return fold(plain)
