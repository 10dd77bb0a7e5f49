"""Which pieces of a vocabulary smaller ones keep, as a network remembers it; free of torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self


@dataclass(frozen=True)
class KeptPieces:
    """Ids of all pieces in the order in which they are kept.

    stretch: size of a vocabulary -> how many times longer it makes texts.
    """

    order: Sequence[int]
    stretch: Mapping[int, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain values, read back by `from_json`."""
        stretch = {str(size): times for size, times in self.stretch.items()}
        return {"order": list(self.order), "stretch": stretch}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Inverse of `to_json`."""
        stretch = {int(size): times for size, times in data["stretch"].items()}
        return cls(data["order"], stretch)
