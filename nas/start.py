"""The first candidates of a search: the corners of the space, then every choice of every gene."""

from __future__ import annotations

import numpy as np

from supernets.space import Choice, Genomes, SearchSpace


def covering_start(space: SearchSpace, n: int, rng: np.random.Generator) -> Genomes:
    """At least `n` canonical genomes (repeats possible), the most telling ones first.

    Largest and smallest sizes with every uniform precision, then rows whose average leans from
    small to large, each gene's choices dealt out evenly.
    """
    return space.canonical(np.vstack([corners(space), leaning_rows(space, n, rng)]))


def corners(space: SearchSpace) -> Genomes:
    """Smallest and largest sizes, each with every precision that all layers can have.

    Genes with names for choices are precisions, genes with numbers are sizes.
    """
    precisions = np.array([isinstance(gene.choices[0], str) for gene in space.genes])
    small, large = space.smallest(), space.largest()
    shared: list[Choice] = []
    if precisions.any():
        named = [
            gene.choices for gene, is_name in zip(space.genes, precisions, strict=True) if is_name
        ]
        shared = [choice for choice in named[0] if all(choice in other for other in named)]
    rows = [large, small]
    for choice in reversed(shared):
        uniform = np.array(
            [
                gene.index(choice) if is_name else 0
                for gene, is_name in zip(space.genes, precisions, strict=True)
            ]
        )
        rows += [np.where(precisions, uniform, sizes) for sizes in (large, small)]
    return np.array(rows, dtype=np.int64)


def leaning_rows(space: SearchSpace, n: int, rng: np.random.Generator) -> Genomes:
    """Rows that lean from small to large, `(n, n_genes)`.

    Uniform sampling of many genes gives networks that all cost about the same; here row i of n
    aims at the level i/n, and sizes and precisions lean independently of each other.
    """
    names = np.array([isinstance(gene.choices[0], str) for gene in space.genes])
    levels = (np.stack([rng.permutation(n), rng.permutation(n)]) + rng.random((2, n))) / n
    level = np.where(names, levels[0][:, None], levels[1][:, None])
    drawn = rng.random((n, len(space.genes)))
    leaning = np.where(rng.random(drawn.shape) < 0.5, level, drawn)
    return np.minimum((leaning * space.n_choices).astype(np.int64), space.n_choices - 1)
