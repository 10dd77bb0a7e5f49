"""Sizes of an MPNet."""

from __future__ import annotations

from typing import Literal

from supernets.families.texts.sizes import TextTransformerSizes


class MPNetConfig(TextTransformerSizes):
    """Sizes of an MPNet."""

    family: Literal["mpnet"] = "mpnet"

    @property
    def padding(self) -> int:
        """MPNet's id of padding."""
        return 1

    @property
    def relative_buckets(self) -> int:
        """Ranges of distances, half of them for each direction."""
        return 32
