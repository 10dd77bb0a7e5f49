"""The first candidates of a search: the corners of the space, then every choice of every gene."""

from __future__ import annotations

import numpy as np

from nas.experiment.objectives import FloatArray
from nas.search.rounding import shares
from supernets.space.space import Choice, Genomes, SearchSpace


def covering_start(space: SearchSpace, n: int, rng: np.random.Generator) -> Genomes:
    """At least `n` canonical genomes (repeats possible), the most telling ones first.

    First `corners`, then `leaning_rows`.
    """
    return space.canonical(np.vstack([corners(space), leaning_rows(space, n, rng)]))


def corners(space: SearchSpace) -> Genomes:
    """Rows that show every size and precision of every layer while it has an effect.

    The largest sizes with one precision throughout, for each precision, the smallest with the
    first, the middle and the last of these, and full depth with each rank of size and of what has
    no order.
    """
    named = space.of_kind("precision")
    parents = [gene.requires.gene for gene in space.genes if gene.requires is not None]
    deep = np.isin([gene.name for gene in space.genes], parents)
    small, large = space.smallest(), space.largest()
    uniform = [_uniform(space, choice) for choice in reversed(_precisions(space))] or [large]
    telling = {0, len(uniform) // 2, len(uniform) - 1}
    pairs = [(u, s) for k, u in enumerate(uniform) for s in (large, small)[: 1 + (k in telling)]]
    rows = [np.where(named, precision, sizes) for precision, sizes in pairs]
    for rank in range(int(space.n_choices[~named & ~deep].max(initial=1)) - 1):
        sizes = np.where(deep, large, np.minimum(rank, large))
        rows.append(np.where(named, uniform[len(uniform) // 2], sizes))
    return np.array(rows, dtype=np.int64)


def _precisions(space: SearchSpace) -> tuple[Choice, ...]:
    """The choices of the precision gene that has most of them."""
    named = [gene.choices for gene in space.genes if gene.kind == "precision"]
    return max(named, key=len, default=())


def _uniform(space: SearchSpace, choice: Choice) -> Genomes:
    """Index of a choice in every gene, of the last one where the gene does not have it."""
    indices = [
        gene.choices.index(choice) if choice in gene.choices else len(gene.choices) - 1
        for gene in space.genes
    ]
    return np.array(indices, dtype=np.int64)


def leaning_rows(space: SearchSpace, n: int, rng: np.random.Generator) -> Genomes:
    """Rows that lean from small to large, `(n, n_genes)`.

    Uniform sampling of many genes gives networks that all cost about the same; here row i of n
    aims at the level i/n, and sizes and precisions lean independently of each other. Choices
    are met as often as `shares` says.
    """
    names = space.of_kind("precision")
    levels = (np.stack([rng.permutation(n), rng.permutation(n)]) + rng.random((2, n))) / n
    level = np.where(names, levels[0][:, None], levels[1][:, None])
    drawn = rng.random((n, len(space.genes)))
    leans = (rng.random(drawn.shape) < 0.5) & ~space.of_kind("choice")
    leaning = np.where(leans, level, drawn)
    return np.asarray((leaning[:, :, None] >= _edges(space)).sum(axis=2), dtype=np.int64)


def _edges(space: SearchSpace) -> FloatArray:
    """Levels at which each gene's next choice begins, 1 past the last, `(n_genes, most - 1)`."""
    edges = np.ones((len(space.genes), int(space.n_choices.max()) - 1))
    for row, gene in zip(edges, space.genes, strict=True):
        row[: len(gene.choices) - 1] = np.cumsum(shares(gene))[:-1]
    return edges
