"""What sub-networks cost before they exist: sizes, MACs, parameters of many genomes at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from hardware.formats.fp32 import FP32
from hardware.formats.registry import find_format, ordered
from hardware.graph.layer import Layer
from supernets.space.space import PRECISION_SUFFIX, Genomes, SearchSpace

Counts = NDArray[np.int64]


class Values:
    """Gene values of many genomes by name, the full size where the space has no such gene."""

    def __init__(self, space: SearchSpace, genomes: Genomes) -> None:
        self.space, self.genomes = space, space.canonical(genomes)

    def __len__(self) -> int:
        return len(self.genomes)

    def sizes(self, gene: str, full: int) -> Counts:
        """Values of an integer gene, `(n,)`."""
        column = self.space.column.get(gene)
        if column is None:
            return np.full(len(self), full, dtype=np.int64)
        choices = np.array(self.space.genes[column].choices, dtype=np.int64)
        return choices[self.genomes[:, column]]

    def choices(self) -> dict[str, NDArray[np.str_]]:
        """Names that genes of kind `choice` stand for, by gene, `(n,)` each."""
        return {
            gene.name: np.array(gene.choices, dtype=np.str_)[self.genomes[:, column]]
            for column, gene in enumerate(self.space.genes)
            if gene.kind == "choice"
        }

    def formats(self, layer: str) -> Counts:
        """Places of a layer's formats in `ordered()`, FP32's where it has no gene, `(n,)`."""
        places = {entry: place for place, entry in enumerate(ordered())}
        column = self.space.column.get(layer + PRECISION_SUFFIX)
        if column is None:
            return np.full(len(self), places[FP32], dtype=np.int64)
        choices = np.array([places[find_format(p)] for p in self.space.genes[column].choices])
        return choices[self.genomes[:, column]]


@dataclass(frozen=True)
class Extent:
    """One layer over n genomes, each `(n,)`: sizes, uses of its weights, whether it exists.

    Features are columns (in) and rows (out) of its weight, see `Layer`. `uses` counts
    multiplications of the whole weight per sample: tokens, or output pixels.
    """

    in_features: Counts
    out_features: Counts
    uses: Counts
    active: NDArray[np.bool_]


@dataclass(frozen=True)
class Cost:
    """Sizes of every quantizable layer over n genomes, arrays `(n, n_layers)`, zero where absent.

    formats: places in `ordered()`. choices: by gene, the names that are chosen, `(n,)` each.
    other_parameters: `(n,)` parameters outside these layers' weights and biases.
    narrowed_parameters: `(n,)` by how much a narrower stream or smaller images make those fewer.
    other_macs: `(n,)` multiply-accumulates outside these layers (attention scores and sums).
    """

    layers: tuple[Layer, ...]
    in_features: Counts
    out_features: Counts
    macs_per_layer: Counts
    active: NDArray[np.bool_]
    formats: Counts
    other_parameters: Counts
    other_macs: Counts
    narrowed_parameters: Counts
    choices: Mapping[str, NDArray[np.str_]]

    @property
    def parameters_per_layer(self) -> Counts:
        """Weights and biases, `(n, n_layers)`."""
        kernel = np.array([prod(layer.shape[2:]) for layer in self.layers])
        bias = np.array([layer.bias for layer in self.layers])
        weights = self.in_features * self.out_features * kernel
        return np.asarray(weights + self.out_features * bias)

    @property
    def parameters(self) -> Counts:
        """All parameters of the sub-network, `(n,)`."""
        return np.asarray(self.parameters_per_layer.sum(axis=1) + self.other_parameters)

    @property
    def macs(self) -> Counts:
        """All multiply-accumulates for one sample, `(n,)`."""
        return np.asarray(self.macs_per_layer.sum(axis=1) + self.other_macs)


def collect(
    layers: Sequence[Layer],
    extents: Mapping[str, Extent],
    values: Values,
    other_parameters: Counts,
    other_macs: Counts,
    narrowed_parameters: Counts | None = None,
) -> Cost:
    """Stack the layers' extents into one table."""
    assert set(extents) == {layer.name for layer in layers}
    columns = [extents[layer.name] for layer in layers]
    active = np.stack([c.active for c in columns], axis=1)
    in_features = np.stack([c.in_features for c in columns], axis=1) * active
    out_features = np.stack([c.out_features for c in columns], axis=1) * active
    uses = np.stack([c.uses for c in columns], axis=1)
    kernel = np.array([prod(layer.shape[2:]) for layer in layers])
    multiplied = np.array([layer.kind != "embedding" for layer in layers])
    formats = np.stack([values.formats(layer.name) for layer in layers], axis=1) * active
    return Cost(
        tuple(layers),
        in_features,
        out_features,
        in_features * out_features * kernel * uses * multiplied,
        active,
        formats,
        other_parameters,
        other_macs,
        np.zeros_like(other_macs) if narrowed_parameters is None else narrowed_parameters,
        values.choices(),
    )
