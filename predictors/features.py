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


def cost_by_precision(
    cost: FloatArray, precision: IntArray, n_precisions: int, per_layer: bool = True
) -> FloatArray:
    """Each layer's `cost` (bytes or MACs) in the column of its precision, then the totals.

    Args:
        cost: `(n_samples, n_layers)`, 0 for a layer that does not exist.
        precision: precision index of each layer `(n_samples, n_layers)`.
        n_precisions: how many precisions there are.
        per_layer: give the layers' columns, not the totals alone.

    Returns:
        `(n_samples, n_layers * n_precisions + n_precisions)`, or the last part alone.
    """
    chosen = precision[:, :, None] == np.arange(n_precisions)
    spent = np.where(chosen, cost[:, :, None], 0.0)
    totals = spent.sum(axis=1)
    return np.hstack([spent.reshape(len(cost), -1), totals]) if per_layer else totals


def precision_changes(
    precision: IntArray, exists: NDArray[np.bool_], n_precisions: int
) -> FloatArray:
    """How often one layer's precision follows another's, `(n_samples, n_precisions ** 2)`.

    Counts pairs of consecutive existing layers (execution order); layers that do not exist are
    skipped, so the layer before a dropped block meets the layer after it.
    """
    n_samples, n_layers = precision.shape
    pairs = np.zeros((n_samples, n_precisions, n_precisions))
    last = np.full(n_samples, -1)
    rows = np.arange(n_samples)
    for layer in range(n_layers):
        on = exists[:, layer]
        both = on & (last >= 0)
        pairs[rows[both], last[both], precision[both, layer]] += 1
        last = np.where(on, precision[:, layer], last)
    return pairs.reshape(n_samples, -1)
