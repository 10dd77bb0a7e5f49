"""The precision policy: which layer gets which format."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Self

from hardware.formats.format import Format


@dataclass(frozen=True)
class QuantPolicy(Mapping[str, Format]):
    """The format of every quantizable layer, keyed by module path (`blocks.3.mlp.fc1`).

    Module paths are the same in the torch network and in the ONNX graph, so one policy serves both.
    """

    formats: Mapping[str, Format] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "formats", dict(sorted(self.formats.items(), key=lambda x: x[0])))

    @classmethod
    def uniform(cls, layers: Iterable[str], precision: Format) -> Self:
        """Give every layer the same format."""
        return cls(dict.fromkeys(layers, precision))

    def __getitem__(self, layer: str) -> Format:
        return self.formats[layer]

    def __iter__(self) -> Iterator[str]:
        return iter(self.formats)

    def __len__(self) -> int:
        return len(self.formats)

    def __hash__(self) -> int:
        return hash(tuple(self.formats.items()))
