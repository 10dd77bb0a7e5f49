"""What convolutional networks of stages can vary; free of torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from supernets.families.sizes import StagedSizes
from supernets.space.dimensions import DepthDimension, SizeDimension, Values
from supernets.space.space import Gene


@dataclass(frozen=True)
class DroppedBlocks(DepthDimension):
    """How many blocks a stage may lose; it keeps at least one."""

    def genes(self, config: StagedSizes, values: Values | None) -> list[Gene]:
        """Blocks that every stage keeps."""
        fewer = [int(n) for n in values or self.default]
        return [
            Gene(gene, tuple(sorted({max(1, depth - n) for n in fewer})))
            for gene, depth in self.places(config).items()
        ]

    def problems(self, config: StagedSizes, values: Values) -> Iterator[str]:
        """Whole numbers below the blocks of the deepest stage."""
        most = max(config.depths) - 1
        for value in values:
            if not isinstance(value, int) or value > most:
                yield (
                    f"space.{self.name}: {value} is no number of blocks that a stage can lose; "
                    f"give whole numbers from 0 to {most}"
                )


DROPPED_BLOCKS = DroppedBlocks(
    "dropped_blocks",
    "How many blocks a stage may lose: 0, 1, ...",
    lambda config: {f"stages.{s}.depth": depth for s, depth in enumerate(config.depths)},
    (0, 1),
)

INNER_WIDTH = SizeDimension(
    "inner_width",
    "Channels inside a block.",
    lambda config: {
        f"{path}.inner_width": width for path, width in config.elastic_inner_widths.items()
    },
    (0.5, 0.75, 1.0),
    lambda _: 8,
)
