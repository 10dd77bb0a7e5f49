"""The first candidates of a search: the corners of the space, then every choice of every gene."""

from __future__ import annotations

import numpy as np

from supernets.space.space import Choice, Genomes, SearchSpace


def covering_start(space: SearchSpace, n: int, rng: np.random.Generator) -> Genomes:
    """At least `n` canonical genomes (repeats possible), the most telling ones first.

    First `corners`, then `leaning_rows`.
    """
    return space.canonical(np.vstack([corners(space), leaning_rows(space, n, rng)]))


def corners(space: SearchSpace) -> Genomes:
    """Rows that show every size and precision of every layer while it has an effect.

    The largest and the smallest sizes with one precision throughout, for each precision, and full
    depth with each rank of size and of what has no order.
    """
    named = space.of_kind("precision")
    parents = [gene.requires.gene for gene in space.genes if gene.requires is not None]
    deep = np.isin([gene.name for gene in space.genes], parents)
    small, large = space.smallest(), space.largest()
    uniform = [_uniform(space, choice) for choice in reversed(_precisions(space))] or [large]
    rows = [np.where(named, u, sizes) for u in uniform for sizes in (large, small)]
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
    aims at the level i/n, and sizes and precisions lean independently of each other.
    """
    names = space.of_kind("precision")
    levels = (np.stack([rng.permutation(n), rng.permutation(n)]) + rng.random((2, n))) / n
    level = np.where(names, levels[0][:, None], levels[1][:, None])
    drawn = rng.random((n, len(space.genes)))
    leans = (rng.random(drawn.shape) < 0.5) & ~space.of_kind("choice")
    leaning = np.where(leans, level, drawn)
    return np.minimum((leaning * space.n_choices).astype(np.int64), space.n_choices - 1)
