"""Sizes of a RegNet."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from supernets.families.sizes import Size, StagedSizes


class RegNetConfig(StagedSizes):
    """Sizes of a RegNet; the lists have one entry per stage."""

    family: Literal["regnet"] = "regnet"
    stem_width: Size = Field(16, description="Output channels of the first convolution.")
    group_width: Size = Field(8, description="Channels of a group; a narrower stage is one group.")
    squeeze: bool = Field(True, description="Squeeze-and-excitation in every block (RegNet-Y).")
    first_stage_stride: Literal[1, 2] = Field(2, description="Stride of the first stage.")

    def groups(self, stage: int) -> int:
        """Groups of channels inside the blocks of a stage."""
        return max(1, self.stage_widths[stage] // self.group_width)

    @property
    def elastic_groups(self) -> dict[str, int]:
        """Gene -> groups inside its block."""
        return {f"{path}.groups": self.groups(stage) for path, stage in self.blocks.items()}

    def stride(self, stage: int, index: int) -> int:
        """Stride of a block."""
        return 1 if index else 2 if stage else self.first_stage_stride

    def width_before(self, stage: int, index: int) -> int:
        """Channels that a block reads."""
        if index:
            return self.stage_widths[stage]
        return self.stage_widths[stage - 1] if stage else self.stem_width

    @model_validator(mode="after")
    def _groups_fill_the_stages(self) -> Self:
        for stage, width in enumerate(self.stage_widths):
            if width % self.groups(stage):
                raise ValueError(
                    f"stage_widths: {width} must be a multiple of group_width {self.group_width}, "
                    "or smaller"
                )
        return self
