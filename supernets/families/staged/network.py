"""What convolutional networks share as super-networks: stages that can lose blocks, BatchNorm."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from supernets.data.data import Batch
from supernets.families.sizes import ImageSizes
from supernets.families.super_network import SuperNetwork
from supernets.layers.batch_norm import fold, recalibrate
from supernets.layers.elastic import ElasticBatchNorm2d
from supernets.space.cost import Values
from supernets.space.space import Architecture

BlockT = TypeVar("BlockT", bound=nn.Module)


class StagedSuperNetwork(SuperNetwork, Generic[BlockT]):
    """A convolutional network of stages."""

    config: ImageSizes

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

    def block(self, path: str) -> BlockT:
        """One block by its module path."""
        return cast("BlockT", self.get_submodule(path))

    def block_path(self, depth_gene: str, index: int) -> str:
        """Module path of one block."""
        return depth_gene.removesuffix("depth") + str(index)

    def kept_blocks(self, values: Values) -> dict[str, NDArray[np.bool_]]:
        """Module path of every block that can be dropped -> which genomes keep it, `(n,)`."""
        return {
            self.block_path(gene, index): values.sizes(gene, len(order)) >= self.rank(gene, index)
            for gene, order in self.block_order.items()
            for index in order
        }

    def stage_paths(self) -> list[list[nn.Module]]:
        """The active blocks of every stage, in order."""
        return [
            [self.get_submodule(self.block_path(gene, index)) for index in kept]
            for gene, kept in self.active.items()
        ]

    def extracted_stages(self) -> list[dict[int, Any]]:
        """Plain copies of the active blocks of every stage, by their index."""
        found = zip(self.active.values(), cast("list[list[Any]]", self.stage_paths()), strict=True)
        return [
            {index: block.extract() for index, block in zip(kept, blocks, strict=True)}
            for kept, blocks in found
        ]

    def activate(self, architecture: Architecture) -> None:
        """Use a sub-network; only the full one moves running statistics."""
        super().activate(architecture)
        for module in self.modules():
            if isinstance(module, ElasticBatchNorm2d):
                module.track = not architecture

    def aligned(
        self, own: Tensor, full: Tensor, inputs: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """All pixels."""
        return own.movedim(1, 3).flatten(0, 2), full.movedim(1, 3).flatten(0, 2)

    def deploy(
        self, calibration: Iterable[Batch] = (), change: Callable[[nn.Module], None] | None = None
    ) -> nn.Module:
        """Extract, take BatchNorm statistics anew from `calibration`, and fold them."""
        plain = super().deploy(change=change)
        recalibrate(plain, calibration)
        return fold(plain)
