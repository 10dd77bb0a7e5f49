"""A first guess of the accuracy, from measurements with one layer quantized at a time."""

from __future__ import annotations

import numpy as np

from nas.objectives import FloatArray
from supernets.space import PRECISION_SUFFIX, Genomes, SearchSpace


def one_layer_at_a_time(space: SearchSpace) -> Genomes:
    """The largest network, then copies with one layer at one lower precision, `(n, n_genes)`."""
    rows = [space.largest()]
    for column, gene in enumerate(space.genes):
        if gene.name.endswith(PRECISION_SUFFIX):
            for choice in range(len(gene.choices) - 1):
                row = space.largest()
                row[column] = choice
                rows.append(row)
    return np.array(rows, dtype=np.int64)


class SensitivityPrior:
    """Sum of what each layer alone loses at its precision (Dong et al. 2020, HAWQ-V2, does so).

    genomes and values: rows of `one_layer_at_a_time` and their accuracy, in the same order.
    """

    def __init__(self, space: SearchSpace, genomes: Genomes, values: FloatArray) -> None:
        self.space = space
        self.lost = np.zeros((len(space.genes), int(space.n_choices.max())))
        for row, value in zip(genomes[1:], values[1:], strict=True):
            column = int(np.flatnonzero(row != genomes[0])[0])
            self.lost[column, row[column]] = values[0] - value

    def __call__(self, genomes: Genomes) -> FloatArray:
        """Expected loss of accuracy, `(n_samples,)`; switched-off layers lose nothing."""
        losses = self.lost[np.arange(genomes.shape[1]), genomes]
        return np.asarray(np.where(self.space.active(genomes), losses, 0.0).sum(axis=1))
