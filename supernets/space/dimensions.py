"""What a family can vary: each dimension owns its genes, and knows what is wrong with values."""

from __future__ import annotations

import difflib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from supernets.settings import DEFAULT_PRECISION, SpaceSettings
from supernets.space.space import Gene

Widths = Sequence[float]


class Dimension(ABC):
    """One thing a family can vary, under its name in the `space` section; free of torch.

    `config` are the sizes of the network at hand.
    """

    name: str
    description: str

    @abstractmethod
    def genes(self, config: Any, widths: Widths | None) -> list[Gene]:
        """Genes in the order of the network, from values without problems; None: the default."""

    @abstractmethod
    def problems(self, config: Any, widths: Widths) -> Iterator[str]:
        """What is wrong with the values for this network."""


@dataclass(frozen=True)
class SizeDimension(Dimension):
    """Sizes of elastic layers, as whole numbers or fractions of the network's own.

    places: gene -> the size that the network has there. default: choices if the settings give
    none; empty leaves the size fixed. multiple: fractions are rounded to it. strict: whole numbers
    must be multiples too.
    """

    name: str
    description: str
    places: Callable[[Any], Mapping[str, int]]
    default: Widths = ()
    multiple: Callable[[Any], int] = lambda _: 1
    strict: bool = False

    def genes(self, config: Any, widths: Widths | None) -> list[Gene]:
        """A gene per place, sizes ascending."""
        wanted, multiple = widths or self.default, self.multiple(config)
        if not wanted:
            return []
        return [
            Gene(gene, tuple(sorted({_size(width, full, multiple) for width in wanted})))
            for gene, full in self.places(config).items()
        ]

    def problems(self, config: Any, widths: Widths) -> Iterator[str]:
        """Whole numbers hold for all places, so the smallest of them limits them."""
        full, multiple = min(self.places(config).values()), self.multiple(config)
        for width in widths:
            if width == 0:
                yield f"space.{self.name}: 0 is no size; give values from 1, or fractions"
            elif isinstance(width, int) and width > full:
                yield (
                    f"space.{self.name}: {width} is larger than the network's {full}; give "
                    f"values up to {full}, or fractions"
                )
            elif isinstance(width, int) and self.strict and width % multiple:
                yield f"space.{self.name}: {width} is no multiple of {multiple}"


def _size(width: float, full: int, multiple: int) -> int:
    if isinstance(width, int):
        return width
    return min(full, max(1, round(width * full / multiple)) * multiple)


def in_order(genes: Iterable[Gene]) -> list[Gene]:
    """Genes of the whole network first, then block by block (or stage), as the dimensions stand."""

    def block(gene: Gene) -> int:
        return next((int(part) for part in gene.name.split(".") if part.isdigit()), -1)

    return sorted(genes, key=block)


def unknown(names: Iterable[str], known: Sequence[str]) -> list[str]:
    """A line for each name that is no dimension, with what may have been meant."""
    found = []
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            found.append(f"unknown key {name!r}; {hint}allowed are {', '.join(known)}")
    return found


def problems(
    settings: SpaceSettings,
    dimensions: Sequence[Dimension],
    config: Any,
    layers: Sequence[str],
) -> list[str]:
    """Everything in the settings that this network cannot do."""
    found: list[str] = []
    known = {dimension.name: dimension for dimension in dimensions}
    for name, widths in settings.dimensions.items():
        if name in known:
            found += known[name].problems(config, widths)
        else:
            found.append(
                f"space.{name}: a {config.family} network has no such dimension; remove it, or "
                f"give one of {', '.join(known)}"
            )
    for pattern in settings.precision or DEFAULT_PRECISION:
        if not any(fnmatchcase(name, pattern) for name in layers):
            found.append(
                f"space.precision: pattern {pattern!r} fits no layer; layers are "
                f"{', '.join(layers)}"
            )
    return found
