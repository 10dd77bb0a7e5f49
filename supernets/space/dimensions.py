"""What a family can vary: each dimension owns its genes, and all that follows from them."""

from __future__ import annotations

import difflib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pkgutil import resolve_name
from typing import Any

from supernets.settings import DEFAULT_PRECISION, SpaceSettings
from supernets.space.space import Architecture, Gene, size_in

Values = Sequence[float | str]
"""What the `space` section gives for a dimension: sizes, fractions or names."""


class Dimension(ABC):
    """One thing a family can vary, under its name in the `space` section; free of torch.

    `config` are the sizes of the network at hand.
    """

    name: str
    description: str

    @abstractmethod
    def genes(self, config: Any, values: Values | None) -> list[Gene]:
        """Genes in the order of the network, from values without problems; None: the default."""

    @abstractmethod
    def problems(self, config: Any, values: Values) -> Iterator[str]:
        """What is wrong with the values for this network."""

    @abstractmethod
    def activate(self, network: Any, architecture: Architecture) -> None:
        """Use this dimension's part of an architecture; a gene left out is the full network's."""

    def config_json(self, config: Any, architecture: Architecture) -> Mapping[str, Any]:
        """Fields of an exported config.json that say what the sub-network has of it."""
        return {}


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
    default: Sequence[float] = ()
    multiple: Callable[[Any], int] = lambda _: 1
    strict: bool = False

    def genes(self, config: Any, values: Values | None) -> list[Gene]:
        """A gene per place, sizes ascending."""
        wanted, multiple = values or self.default, self.multiple(config)
        if not wanted:
            return []
        return [
            Gene(gene, tuple(sorted({size_of(width, full, multiple) for width in wanted})))
            for gene, full in self.places(config).items()
        ]

    def problems(self, config: Any, values: Values) -> Iterator[str]:
        """Whole numbers hold for all places, so the smallest of them limits them."""
        places, multiple = self.places(config), self.multiple(config)
        if not places:
            yield f"space.{self.name}: fixed in a network like this; leave it out"
            return
        full = min(places.values())
        for width in values:
            if isinstance(width, str):
                yield (
                    f"space.{self.name}: {width!r} is no size; give whole numbers up to {full}, or "
                    "fractions"
                )
            elif width == 0:
                yield f"space.{self.name}: 0 is no size; give values from 1, or fractions"
            elif isinstance(width, int) and width > full:
                yield (
                    f"space.{self.name}: {width} is larger than the network's {full}; give "
                    f"values up to {full}, or fractions"
                )
            elif isinstance(width, int) and self.strict and width % multiple:
                yield f"space.{self.name}: {width} is no multiple of {multiple}"

    def activate(self, network: Any, architecture: Architecture) -> None:
        """Use the first units of every place alone; the network's `units` say where they lie."""
        for gene, full in self.places(network.config).items():
            network.use_units(gene, size_in(architecture, gene, full))


@dataclass(frozen=True)
class DepthDimension(SizeDimension):
    """Numbers of blocks."""

    def activate(self, network: Any, architecture: Architecture) -> None:
        """Run the most important blocks alone."""
        for gene, full in self.places(network.config).items():
            network.use_blocks(gene, size_in(architecture, gene, full))


@dataclass(frozen=True)
class ChoiceDimension(Dimension):
    """Modules without parameters, of which one is chosen in every place.

    places: module paths, which are the genes. choices: name -> class, as `module:name`; the full
    network's comes last, and is always one of them. field: what config.json calls it. Without
    values there is no choice.
    """

    name: str
    description: str
    places: Callable[[Any], Sequence[str]]
    choices: Mapping[str, str]
    field: str

    def genes(self, config: Any, values: Values | None) -> list[Gene]:
        """A gene per place, the full network's choice last."""
        wanted = tuple(name for name in self.choices if name in (values or ()))
        return [Gene(path, wanted, kind="choice") for path in self.places(config) if wanted]

    def problems(self, config: Any, values: Values) -> Iterator[str]:
        """Names that are none of the choices, and the full network's if it is missing."""
        own = list(self.choices)[-1]
        for value in values:
            if value not in self.choices:
                yield (
                    f"space.{self.name}: {value!r} is no choice; give some of "
                    f"{', '.join(self.choices)}"
                )
        if own not in values:
            yield f"space.{self.name}: {own!r}, the network's own, must be one of them; add it"

    def activate(self, network: Any, architecture: Architecture) -> None:
        """Put the chosen module in every place."""
        own = list(self.choices)[-1]
        for path in self.places(network.config):
            module = resolve_name(self.choices[str(architecture.get(path, own))])
            network.set_submodule(path, module())

    def config_json(self, config: Any, architecture: Architecture) -> Mapping[str, Any]:
        """The field, if all places have the same."""
        found = {architecture[path] for path in self.places(config) if path in architecture}
        return {self.field: found.pop()} if len(found) == 1 else {}


def size_of(width: float | str, full: int, multiple: int) -> int:
    """A size from a whole number, or from a fraction of the full one, rounded to a multiple."""
    assert not isinstance(width, str), "names are no sizes"
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
    for name, values in settings.dimensions.items():
        if name in known:
            found += known[name].problems(config, values)
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
