"""How much hypervolume a candidate is expected to add, and a round that adds most together."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from nas.experiment.objectives import FloatArray
from nas.search.pareto import non_dominated, spread
from predictors.estimators import TargetScale

_POINTS = {1: 1, 2: 400, 3: 60}  # front points the gain is computed against, by objectives
_POINTS_MANY = 12
_SHORTLIST = 400  # candidates whose gain is followed while a round is put together


def gain_boxes(costs: FloatArray, reference: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Cut what no point dominates, up to `reference`, into boxes: lower and upper corners.

    Slices along the last objective and repeats in the objectives left; lower corners reach to
    minus infinity. Both `(n_boxes, n_objectives)`.
    """
    inside = costs[(costs < reference).all(axis=1)]
    inside = np.unique(inside[non_dominated(inside)], axis=0)
    if reference.shape == (1,):
        top = inside[:, 0].min() if len(inside) else reference[0]
        return np.array([[-np.inf]]), np.array([[top]])
    edges = np.concatenate([[-np.inf], np.unique(inside[:, -1]), reference[-1:]])
    lowers, uppers = [], []
    for low, high in pairwise(edges):
        below = inside[inside[:, -1] <= low][:, :-1]
        lower, upper = gain_boxes(below, reference[:-1])
        lowers.append(np.column_stack([lower, np.full(len(lower), low)]))
        uppers.append(np.column_stack([upper, np.full(len(upper), high)]))
    return np.concatenate(lowers), np.concatenate(uppers)


def expected_gain(
    mean: FloatArray, std: FloatArray, boxes: tuple[FloatArray, FloatArray]
) -> FloatArray:
    """Expected hypervolume gain of candidates with independent normal costs, `(n_samples,)`.

    In a box the gain is a product over the objectives of E[min(upper, ...) - cost], each of which
    is a difference of E[(edge - cost)+] (Yang et al. 2019, "Efficient computation of expected
    hypervolume improvement using box decomposition algorithms").
    """
    total = np.ones((len(mean), len(boxes[0])))
    for k in range(mean.shape[1]):
        edges, position = np.unique(np.stack([boxes[0][:, k], boxes[1][:, k]]), return_inverse=True)
        below = _expected_below(edges, mean[:, k], std[:, k])
        lower, upper = position.reshape(2, -1)
        total *= below[:, upper] - below[:, lower]
    return np.asarray(total.sum(axis=1))


def _expected_below(edges: FloatArray, mean: FloatArray, std: FloatArray) -> FloatArray:
    """E[(edge - cost)+], `(n_samples, n_edges)`."""
    finite = np.where(np.isfinite(edges), edges, 0.0)
    distance = finite - mean[:, None]
    scale = np.maximum(std, 1e-12)[:, None]
    z = distance / scale
    density = np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)
    return np.where(np.isfinite(edges), distance * ndtr(z) + scale * density, 0.0)


class EvenScale:
    """Stretches every cost so that the measured ones are as nearly normal as a power makes them.

    A gain in hypervolume then counts alike all over the front, not most where a cost has its long
    tail (accuracy of the smallest networks, latency of the largest).
    """

    def __init__(self, measured: FloatArray) -> None:
        self.scales = [TargetScale.of(column, warp=True) for column in measured.T]

    def costs(self, costs: FloatArray) -> FloatArray:
        """Stretched costs, same shape."""
        columns = [scale.forward(costs[:, k]) for k, scale in enumerate(self.scales)]
        return np.stack(columns, axis=1)

    def stds(self, mean: FloatArray, std: FloatArray) -> FloatArray:
        """Standard deviations after stretching: half the way from one to the other side."""
        return np.asarray((self.costs(mean + std) - self.costs(mean - std)) / 2)


def pick_round(
    measured: FloatArray,
    mean: FloatArray,
    std: FloatArray,
    feasible: FloatArray,
    reference: FloatArray,
    n: int,
) -> NDArray[np.intp]:
    """Choose up to `n` candidates one by one, each for what it adds to those before it.

    A chosen candidate counts as measured at its mean, so that the next one goes elsewhere.

    Args:
        measured: costs of the measured feasible candidates `(n_measured, n_objectives)`.
        mean: predicted costs `(n_samples, n_objectives)`.
        std: their standard deviations, same shape.
        feasible: probability that a candidate keeps all constraints `(n_samples,)`.
        reference: bound of the hypervolume `(n_objectives,)`.
        n: how many to choose.
    """
    limit = _POINTS.get(mean.shape[1], _POINTS_MANY)

    def gain(rows: NDArray[np.intp], points: FloatArray) -> FloatArray:
        boxes = gain_boxes(points[spread(points, limit)], reference)
        return expected_gain(mean[rows], std[rows], boxes) * feasible[rows]

    alone = gain(np.arange(len(mean)), measured)
    rows = np.argsort(-alone, kind="stable")[: _SHORTLIST + n]
    chosen: list[int] = []
    points = measured
    for _ in range(min(n, len(mean))):
        gains = gain(rows, points)
        gains[np.isin(rows, chosen)] = -1.0
        chosen.append(int(rows[np.argmax(gains)]))
        points = np.vstack([points, mean[chosen[-1:]]])
    return np.array(chosen, dtype=np.intp)
