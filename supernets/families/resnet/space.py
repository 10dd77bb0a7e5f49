"""What a ResNet can vary; free of torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from supernets.families.resnet.config import ResNetConfig
from supernets.space.dimensions import SizeDimension, Values
from supernets.space.space import Gene


@dataclass(frozen=True)
class DroppedBlocks(SizeDimension):
    """How many blocks a stage may lose; it keeps at least one."""

    def genes(self, config: ResNetConfig, values: Values | None) -> list[Gene]:
        """Blocks that every stage keeps."""
        fewer = [int(n) for n in values or self.default]
        return [
            Gene(gene, tuple(sorted({max(1, depth - n) for n in fewer})))
            for gene, depth in self.places(config).items()
        ]

    def problems(self, config: ResNetConfig, values: Values) -> Iterator[str]:
        """Whole numbers below the blocks of the deepest stage."""
        most = max(config.depths) - 1
        for value in values:
            if not isinstance(value, int) or value > most:
                yield (
                    f"space.{self.name}: {value} is no number of blocks that a stage can lose; "
                    f"give whole numbers from 0 to {most}"
                )


def _inner(config: ResNetConfig) -> dict[str, int]:
    return {
        f"stages.{stage}.{index}.inner_width": config.inner_widths[stage]
        for stage, depth in enumerate(config.depths)
        for index in range(depth)
    }


DIMENSIONS = (
    DroppedBlocks(
        "dropped_blocks",
        "How many blocks a stage may lose: 0, 1, ...",
        lambda config: {f"stages.{s}.depth": depth for s, depth in enumerate(config.depths)},
        (0, 1),
    ),
    SizeDimension(
        "stage_width",
        "Channels of a stage.",
        lambda config: {f"stages.{s}.width": w for s, w in enumerate(config.stage_widths)},
        (0.5, 0.75, 1.0),
        lambda _: 8,
    ),
    SizeDimension(
        "inner_width", "Channels inside a residual block.", _inner, (0.5, 0.75, 1.0), lambda _: 8
    ),
)
