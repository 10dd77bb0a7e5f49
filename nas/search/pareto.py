"""Pareto fronts: which points are on one, how much they cover, and which to pick.

Costs are `(n_points, n_objectives)`, smaller is better (`nas.objectives.to_costs`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pymoo.indicators.hv import HV

from nas.experiment.objectives import FloatArray


def non_dominated(costs: FloatArray) -> NDArray[np.bool_]:
    """Mark the points no other point dominates. Equal points stay together, `(n_points,)`.

    A dominates B: nowhere worse, somewhere better. A point with a NaN is never marked.
    """
    kept: NDArray[np.bool_] = ~np.asarray(np.isnan(costs).any(axis=1))
    for position in range(len(costs)):
        if kept[position]:
            point = costs[position]
            kept &= ~((costs >= point).all(axis=1) & (costs > point).any(axis=1))
    return kept


def front(costs: FloatArray) -> NDArray[np.intp]:
    """Positions of the non-dominated points, ordered by the first cost, then by the others."""
    positions = np.flatnonzero(non_dominated(costs))
    return positions[np.lexsort(costs[positions].T[::-1])]


def hypervolume(costs: FloatArray, reference: FloatArray) -> float:
    """Volume dominated by the points and bounded by the `reference` point, computed exactly."""
    inside = costs[(costs < reference).all(axis=1)]
    if not len(inside):
        return 0.0
    if inside.shape[1] == 1:
        return float(reference[0] - inside.min())
    return float(HV(ref_point=reference)(inside))


def reference_point(costs: FloatArray, margin: float = 0.1) -> FloatArray:
    """The worst value of every cost, moved out by `margin` of its range, `(n_objectives,)`."""
    worst, best = np.nanmax(costs, axis=0), np.nanmin(costs, axis=0)
    return np.asarray(worst + margin * np.where(worst > best, worst - best, 1.0))


def normalise(costs: FloatArray) -> FloatArray:
    """Stretch every cost to 0..1 (a constant one to 0)."""
    best = costs.min(axis=0)
    extent = costs.max(axis=0) - best
    return np.asarray((costs - best) / np.where(extent > 0, extent, 1.0))


def spread(costs: FloatArray, n: int) -> NDArray[np.intp]:
    """Up to `n` front points that cover it: each cost's best first, then always the farthest.

    Of equal points one is taken. Ordered as `front` orders them.
    """
    positions = front(costs)
    if not len(positions):
        return positions
    points, firsts = np.unique(normalise(costs[positions]), axis=0, return_index=True)
    taken = list(dict.fromkeys(int(i) for i in points.argmin(axis=0)))[:n]
    while len(taken) < min(n, len(points)):
        distance = np.linalg.norm(points[:, None] - points[taken], axis=2).min(axis=1)
        taken.append(int(distance.argmax()))
    return positions[np.sort(firsts[taken])]
