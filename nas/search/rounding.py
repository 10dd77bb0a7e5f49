"""What is known of precisions before anything is measured: by how much they round."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hardware.formats.registry import find_format
from nas.experiment.objectives import FloatArray
from supernets.space.space import Gene, Genomes, SearchSpace

_ENOUGH_BITS = 4
"""From which on rounding seldom decides how good a network is: wholly in INT4 three small networks
lost 0.7, 0 and -0.3 points, wholly in INT2 6.5, 36 and 0.3."""


def few_bits(space: SearchSpace) -> NDArray[np.bool_]:
    """Which genes are precisions with a choice of few bits, `(n_genes,)`."""
    return np.array([gene.kind == "precision" and _fewest(gene) for gene in space.genes], bool)


def _fewest(gene: Gene) -> bool:
    return any(find_format(choice).bits < _ENOUGH_BITS for choice in gene.choices)


def rounding_features(space: SearchSpace, genomes: Genomes) -> FloatArray:
    """Rounding of every layer that may have few bits, then its mean over those there are.

    Two columns a layer, the energy of its weights' errors, which every bit more quarters, and
    whether its activations are rounded, too, zero where it is switched off; then two means: `(n,
    2 * layers + 2)`, or no column without such layers. So formats share what is learnt of a layer
    and, by the means, layers what is learnt of few bits: with a column for every format of every
    layer what had not been tried somewhere counted as harmless there. (Without few bits searches
    are better by those: 0.973 instead of 0.953 of the hypervolume after 50 measurements, digits
    table, two seeds.)
    """
    places = np.flatnonzero(few_bits(space))
    if not len(places):
        return np.zeros((len(genomes), 0))
    there = space.active(genomes)[:, places]
    known = np.zeros((2, *there.shape))
    for column, place in enumerate(places):
        known[:, :, column] = _known(space.genes[place])[:, genomes[:, place]]
    known *= there
    means = known.sum(axis=2) / np.maximum(there.sum(axis=1), 1)
    return np.hstack([*known, means.T])


def _known(gene: Gene) -> FloatArray:
    """Energy of the weights' errors, and whether activations are rounded, `(2, n_choices)`."""
    formats = [find_format(choice) for choice in gene.choices]
    return np.array([[4.0**-entry.bits for entry in formats], [entry.integer for entry in formats]])


def shares(gene: Gene) -> FloatArray:
    """How often each choice is drawn where nothing is known yet, in all 1, `(n_choices,)`.

    Alike but for precisions of so few bits that one layer of them may spoil a network: each bit
    less halves their share, as it doubles the errors.
    """
    weights = np.ones(len(gene.choices))
    if gene.kind == "precision":
        bits = np.array([find_format(choice).bits for choice in gene.choices])
        weights = 2.0 ** np.minimum(bits, _ENOUGH_BITS)
    return np.asarray(weights / weights.sum())
