"""What each gene does to each metric, as the fitted predictors see it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from nas.search.surrogate import Surrogate
from supernets.space.space import Choice, Genomes

Effects = Mapping[str, Mapping[str, Mapping[str, float]]]
"""Metric -> gene -> choice -> mean change of the metric, the last choice's being 0."""
BACKGROUND = 32
"""Candidates that a mean is taken over."""


def effects_of_genes(surrogate: Surrogate, genomes: Genomes) -> Effects:
    """Partial dependence (Friedman 2001, section 8.2) of every metric on every gene.

    Each choice is put into the same measured candidates in which the gene is active, everything
    else left as it is, and the predictions are averaged. genomes: those candidates, `(n, n_genes)`.
    """
    problem, space = surrogate.problem, surrogate.problem.space
    active = space.active(genomes)
    found: dict[str, dict[str, dict[str, float]]] = {m.name: {} for m in problem.metrics}
    for column, gene in enumerate(space.genes):
        rows = _spread_out(genomes[active[:, column]])
        if len(gene.choices) < 2 or not len(rows):
            continue
        changed = np.repeat(rows, len(gene.choices), axis=0)
        changed[:, column] = np.tile(np.arange(len(gene.choices)), len(rows))
        values = surrogate.values(space.canonical(changed))
        means = values.reshape(len(rows), len(gene.choices), -1).mean(axis=0)
        for metric, of_choices in zip(problem.metrics, (means - means[-1]).T, strict=True):
            found[metric.name][gene.name] = _named(gene.choices, of_choices.tolist())
    return found


def _spread_out(genomes: Genomes) -> Genomes:
    """At most `BACKGROUND` rows, from the first to the last measured."""
    kept = np.unique(np.linspace(0, len(genomes) - 1, BACKGROUND).round().astype(int))
    return genomes[kept] if len(genomes) else genomes


def _named(choices: tuple[Choice, ...], values: list[float]) -> dict[str, float]:
    return dict(zip(map(str, choices), values, strict=True))
