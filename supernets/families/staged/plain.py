"""The plain forward pass that convolutional networks share.

B batch, C channels, H height, W width
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import cast

from torch import Tensor, nn


class PooledNetwork(nn.Module):
    """A stem, blocks, a mean over all places, a classifier."""

    stem: nn.Module
    head: nn.Linear

    def path(self) -> Iterable[nn.Module]:
        """The blocks to run, in order."""
        raise NotImplementedError

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Classify images `(B, C, H, W)` into logits `(B, classes)`."""
        logits: Tensor = self.head(self.features(pixel_values))
        return logits

    def features(self, pixel_values: Tensor) -> Tensor:
        """What the classifier reads of each image, `(B, C)`."""
        return self.maps(pixel_values).mean(dim=(2, 3))

    def maps(self, pixel_values: Tensor) -> Tensor:
        """The last feature maps, `(B, C, H, W)`."""
        x_BCHW: Tensor = self.stem(pixel_values)
        for block in self.path():
            x_BCHW = block(x_BCHW)
        return x_BCHW


class StagedNetwork(PooledNetwork):
    """Blocks in stages; they keep the index they had in the network they come from."""

    def __init__(
        self, stem: nn.Module, stages: Sequence[Mapping[int, nn.Module]], head: nn.Linear
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

    def stage_paths(self) -> Iterable[Iterable[nn.Module]]:
        """The blocks to run in every stage, in order."""
        return [cast("nn.ModuleDict", stage).values() for stage in self.stages.values()]

    def path(self) -> Iterable[nn.Module]:
        """The blocks to run, in order."""
        return [block for blocks in self.stage_paths() for block in blocks]
