"""What a search has reached after every round, and when nothing more is expected."""

from __future__ import annotations

import numpy as np
import pytest

from nas.experiment.metrics import find_metric
from nas.experiment.objectives import parse_constraint
from nas.search.expected_gain import expected_gain, hypervolumes
from nas.search.problem import History, SearchProblem
from supernets.space.space import Gene, SearchSpace

SPACE = SearchSpace((Gene("width", tuple(range(1, 7))),))
PROBLEM = SearchProblem(SPACE, (find_metric("latency_ms"), find_metric("size_bytes")))
VALUES = np.array([[4.0, 4.0], [2.0, 3.0], [3.0, 2.0], [1.0, 3.0], [3.0, 1.0]])
ROUNDS = [1, 2, 2, 3, 3]


def history(values: np.ndarray) -> History:
    genomes = np.arange(len(values))[:, None]
    return History.empty(PROBLEM).append(genomes, values)


def areas(values: np.ndarray, corner: float = 4.3) -> float:
    """Of what the points dominate within the corner, counted cell by cell on a fine grid."""
    grid = np.arange(1.0, corner, 0.005) + 0.0025
    x, y = np.meshgrid(grid, grid)
    dominated = np.zeros_like(x, dtype=bool)
    for a, b in values:
        dominated |= (x >= a) & (y >= b)
    return float(dominated.mean())


def test_hypervolume_after_each_round_is_the_dominated_area() -> None:
    found = hypervolumes(PROBLEM, history(VALUES), ROUNDS)
    assert list(found) == [1, 2, 3]
    for number, value in found.items():
        until = VALUES[np.array(ROUNDS) <= number]
        assert value == pytest.approx(areas(until), abs=0.005)


def test_what_breaks_a_constraint_or_failed_does_not_count() -> None:
    limited = SearchProblem(SPACE, PROBLEM.objectives, (parse_constraint("latency_ms <= 2.5"),))
    values = np.vstack([VALUES, [[np.nan, 1.0]]])
    found = hypervolumes(limited, history(values), [*ROUNDS, 4])
    kept = VALUES[VALUES[:, 0] <= 2.5]
    assert found[1] == 0
    assert found[3] == pytest.approx(areas(kept), abs=0.005)
    assert 4 not in found


def test_nothing_measured_reaches_nothing() -> None:
    assert hypervolumes(PROBLEM, History.empty(PROBLEM), []) == {}


@pytest.mark.parametrize(
    ("reached", "patience", "gain"),
    [
        ([0.2, 0.5], 1, 0.6),
        ([0.2, 0.4, 0.5], 2, 0.3),
        ([0.5, 0.5, 0.5], 2, 0.0),
        ([0.5, 0.5], 2, None),
        ([0.0, 0.0], 1, None),
    ],
)
def test_the_next_round_is_expected_to_add_what_the_last_did(
    reached: list[float], patience: int, gain: float | None
) -> None:
    found = expected_gain(reached, patience)
    assert found == (None if gain is None else pytest.approx(gain))
