"""Numbers a regressor can learn from: genes one-hot, and where bytes and MACs are spent."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


def one_hot(
    indices: IntArray, n_choices: IntArray, active: NDArray[np.bool_] | None = None
) -> FloatArray:
    """One column per choice of every gene, `(n_samples, sum(n_choices))`.

    A switched-off gene (`active` False) is 0 in all its columns. A gene with one choice has none.
    """
    varied = n_choices > 1
    indices, sizes = indices[:, varied], n_choices[varied]
    starts = np.concatenate([[0], np.cumsum(sizes)])
    columns = np.zeros((len(indices), int(starts[-1])))
    on = 1.0 if active is None else active[:, varied].astype(np.float64)
    np.put_along_axis(columns, indices + starts[:-1], on, axis=1)
    return columns


def levels(
    indices: IntArray, n_choices: IntArray, active: NDArray[np.bool_] | None = None
) -> FloatArray:
    """Each gene's choice as a number from 0 (first) to 1 (last), 0 where switched off."""
    varied = n_choices > 1
    columns = indices[:, varied] / (n_choices[varied] - 1)
    return np.asarray(columns if active is None else columns * active[:, varied])


def cost_by_precision(cost: FloatArray, precision: IntArray, n_precisions: int) -> FloatArray:
    """Sum of the layers' `cost` (bytes or MACs) in each precision, `(n_samples, n_precisions)`.

    Args:
        cost: `(n_samples, n_layers)`, 0 for a layer that does not exist.
        precision: precision index of each layer `(n_samples, n_layers)`.
        n_precisions: how many precisions there are.
    """
    sums = [np.where(precision == chosen, cost, 0.0).sum(axis=1) for chosen in range(n_precisions)]
    return np.stack(sums, axis=1)


def precision_changes(
    precision: IntArray, exists: NDArray[np.bool_], n_precisions: int
) -> FloatArray:
    """How often one layer's precision follows another's, `(n_samples, n_precisions ** 2)`.

    Counts pairs of consecutive existing layers (execution order); layers that do not exist are
    skipped, so the layer before a dropped block meets the layer after it.
    """
    n_samples, n_layers = precision.shape
    newest = np.maximum.accumulate(np.where(exists, np.arange(n_layers), -1), axis=1)
    before = newest[:, :-1]
    row, layer = np.nonzero(exists[:, 1:] & (before >= 0))
    pair = precision[row, before[row, layer]] * n_precisions + precision[row, layer + 1]
    size = n_precisions**2
    counts = np.bincount(row * size + pair, minlength=n_samples * size)
    return counts.reshape(n_samples, size).astype(np.float64)
