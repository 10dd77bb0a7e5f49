"""Metrics of vectors: outputs `(n, D)`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from supernets.metrics.metric import Array, Quality
from supernets.metrics.numbers import rank_correlation

AT_A_TIME = 1024
"""Rows whose cosines to all others are held in memory together."""


def cosine(vectors: Array, taught: Array, names: Sequence[str]) -> float:
    """Mean cosine to the checkpoint's own vectors `(n, D)`."""
    return float((unit(vectors) * unit(taught)).sum(axis=1).mean())


def neighbour_accuracy(vectors: Array, classes: Array, names: Sequence[str]) -> float:
    """Part of the texts whose nearest other text is of their class `(n,)`, by cosine."""
    return float(neighbour_right(vectors, classes).mean())


def neighbour_right(vectors: Array, classes: Array) -> Array:
    """Whether a text's nearest other one is of its class `(n,)`."""
    given, nearest = unit(vectors), []
    for start in range(0, len(given), AT_A_TIME):
        rows = np.arange(start, min(start + AT_A_TIME, len(given)))
        cosines = given[rows] @ given.T
        cosines[np.arange(len(rows)), rows] = -np.inf
        nearest.append(cosines.argmax(axis=1))
    return np.asarray(classes[np.concatenate(nearest)] == classes)


def sts_spearman(vectors: Array, scores: Array, names: Sequence[str]) -> float:
    """Rank correlation of a pair's cosine and its score; a pair is two rows with one score."""
    pairs = unit(vectors)[: len(vectors) // 2 * 2].reshape(-1, 2, vectors.shape[1])
    return rank_correlation((pairs[:, 0] * pairs[:, 1]).sum(axis=1), scores[1::2])


def unit(vectors: Array) -> Array:
    """Vectors at length one; one of no length stays."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    at_one: Array = vectors / np.where(lengths > 0, lengths, 1.0)
    return at_one


COSINE = Quality("cosine", "cosine to the checkpoint's vectors", cosine)
NEIGHBOUR_ACCURACY = Quality(
    "neighbour_accuracy",
    "accuracy of nearest neighbours",
    neighbour_accuracy,
    right=neighbour_right,
)
STS_SPEARMAN = Quality("sts_spearman", "Spearman's correlation of cosines", sts_spearman)
