"""Metrics of numbers: outputs `(n, 1)`, targets `(n,)`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from supernets.metrics.metric import Array, Quality


def pearson(outputs: Array, numbers: Array, names: Sequence[str]) -> float:
    """Linear correlation; 0 where one side is the same throughout."""
    return correlation(outputs[:, 0], numbers)


def spearman(outputs: Array, numbers: Array, names: Sequence[str]) -> float:
    """Correlation of ranks; 0 where one side is the same throughout."""
    return rank_correlation(outputs[:, 0], numbers)


def mean_absolute_error(outputs: Array, numbers: Array, names: Sequence[str]) -> float:
    """Mean distance, in the targets' own unit."""
    return float(np.abs(outputs[:, 0] - numbers).mean())


def correlation(x: Array, y: Array) -> float:
    """Pearson's coefficient of two columns `(n,)`."""
    x, y = x.astype(np.float64) - x.mean(), y.astype(np.float64) - y.mean()
    scale = float(np.sqrt((x**2).sum() * (y**2).sum()))
    return float((x * y).sum()) / scale if scale > 0 else 0.0


def rank_correlation(x: Array, y: Array) -> float:
    """Spearman's coefficient of two columns `(n,)`."""
    from scipy.stats import rankdata

    return correlation(rankdata(x), rankdata(y))


SPEARMAN = Quality("spearman", "Spearman's correlation", spearman)
PEARSON = Quality("pearson", "Pearson's correlation", pearson)
MEAN_ABSOLUTE_ERROR = Quality(
    "mae", "mean absolute error", mean_absolute_error, direction="minimize"
)
