"""How much the rounds of a search still add, and what the next one is expected to."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nas.search.pareto import hypervolume, reference_point
from nas.search.problem import History, SearchProblem

LEAST_GAIN = 0.005
"""Part of the hypervolume below which a round is not worth its time."""


def hypervolumes(
    problem: SearchProblem, history: History, rounds: Sequence[int]
) -> dict[int, float]:
    """Round -> hypervolume of what keeps the constraints after it, as part of the whole box.

    rounds: of each row of the history. The box reaches from the best of every cost to a tenth
    beyond the worst, of all rounds, so that rounds compare.
    """
    numbers, good = np.asarray(rounds)[~history.failed], history.good
    if not len(good):
        return {}
    costs = problem.costs(good.values)
    kept = (problem.violations(good.values) == 0).all(axis=1)
    worst, best = reference_point(costs), costs.min(axis=0)
    box = float(np.prod(worst - best))
    return {
        int(number): hypervolume(costs[kept & (numbers <= number)], worst) / box
        for number in np.unique(numbers)
    }


def expected_gain(reached: Sequence[float], patience: int) -> float | None:
    """What a further round should add, as part of what is reached: the last rounds' mean.

    None before `patience` rounds followed another, and where nothing keeps the constraints yet.
    """
    if len(reached) <= patience or not reached[-1]:
        return None
    return (reached[-1] - reached[-1 - patience]) / patience / reached[-1]
