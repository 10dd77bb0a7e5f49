from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from nas.experiment.objectives import FloatArray
from nas.search.pareto import front, hypervolume, non_dominated, reference_point, spread

LEVELS = 5
points = st.integers(1, 3).flatmap(
    lambda m: arrays(
        np.float64,
        st.tuples(st.integers(1, 12), st.just(m)),
        elements=st.integers(0, LEVELS - 1).map(float),
    )
)


def dominates(a: FloatArray, b: FloatArray) -> bool:
    return bool((a <= b).all() and (a < b).any())


@given(points)
@settings(deadline=None)
def test_non_dominated_is_the_definition(costs: FloatArray) -> None:
    expected = [not any(dominates(a, b) for a in costs) for b in costs]
    assert non_dominated(costs).tolist() == expected


@given(points)
@settings(deadline=None)
def test_hypervolume_counts_the_dominated_cells(costs: FloatArray) -> None:
    cells = np.stack(
        np.meshgrid(*[np.arange(LEVELS)] * costs.shape[1], indexing="ij"), axis=-1
    ).reshape(-1, costs.shape[1])
    covered = (costs[:, None] <= cells).all(axis=2).any(axis=0).sum()
    assert hypervolume(costs, np.full(costs.shape[1], float(LEVELS))) == pytest.approx(covered)


def test_equal_points_stay_and_failed_ones_go() -> None:
    costs = np.array([[1, 2], [1, 2], [2, 3], [np.nan, 0], [0, 5]], dtype=float)
    assert non_dominated(costs).tolist() == [True, True, False, False, True]
    assert front(costs).tolist() == [4, 0, 1]


def test_hypervolume_of_points_beyond_the_reference_is_zero() -> None:
    assert hypervolume(np.array([[2.0, 0.0]]), np.array([1.0, 1.0])) == 0.0


def test_reference_point_is_worse_than_every_point() -> None:
    costs = np.array([[0.0, 5.0], [4.0, 5.0]])
    assert reference_point(costs, margin=0.25).tolist() == [5.0, 5.25]


def test_spread_keeps_the_extremes_and_covers_the_rest() -> None:
    steps = np.linspace(0, 1, 101)
    costs = np.stack([steps, 1 - steps], axis=1)
    costs = np.vstack([costs, costs[:1], [[2.0, 2.0]]])
    chosen = spread(costs, 5)
    assert {0, 100} <= set(chosen.tolist()) or {101, 100} <= set(chosen.tolist())
    assert np.allclose(costs[chosen, 0], [0, 0.25, 0.5, 0.75, 1], atol=0.011)
    assert len(spread(costs, 500)) == 101
