"""What a ResNet can vary; free of torch."""

from __future__ import annotations

from supernets.families.staged.dimensions import DROPPED_BLOCKS, INNER_WIDTH
from supernets.space.dimensions import SizeDimension

DIMENSIONS = (
    DROPPED_BLOCKS,
    SizeDimension(
        "stage_width",
        "Channels of a stage.",
        lambda config: {f"stages.{s}.width": w for s, w in enumerate(config.stage_widths)},
        (0.5, 0.75, 1.0),
        lambda _: 8,
    ),
    INNER_WIDTH,
)
