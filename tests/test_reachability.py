from __future__ import annotations

import numpy as np
import pytest

from nas.experiment.objectives import parse_constraint
from nas.search.feasibility import UnreachableError, refuse_unreachable
from nas.search.initial_design import covering_start
from nas.search.problem import History, SearchProblem
from tests.sample_problems import block_problem, measure


def measured(problem: SearchProblem, n: int = 30) -> History:
    rows = np.unique(covering_start(problem.space, n, np.random.default_rng(0)), axis=0)
    return History.empty(problem).append(rows, measure(problem, rows))


@pytest.mark.parametrize("blocks", [3, 8])
def test_what_no_network_reaches_is_refused_with_the_best_value(blocks: int) -> None:
    problem = block_problem(blocks, constraints=(parse_constraint("accuracy >= 1.4"),))
    with pytest.raises(UnreachableError, match=r"'accuracy >= 1\.4'.*accuracy (0\.9|1\.0)"):
        refuse_unreachable(problem, measured(problem), 0)


def test_constraints_that_exclude_each_other_are_named_together() -> None:
    pair = (parse_constraint("accuracy >= 0.99"), parse_constraint("latency_ms <= 1"))
    problem = block_problem(3, constraints=pair)
    with pytest.raises(UnreachableError, match="together"):
        refuse_unreachable(problem, measured(problem), 0)


def test_what_can_be_reached_or_is_in_doubt_passes() -> None:
    for text in ("accuracy >= 0.9", "latency_ms <= 2"):
        problem = block_problem(3, constraints=(parse_constraint(text),))
        refuse_unreachable(problem, measured(problem), 0)
    problem = block_problem(3, constraints=(parse_constraint("accuracy >= 1.4"),))
    rows = problem.space.sample(7, np.random.default_rng(0))  # too few to judge by
    few = History.empty(problem).append(rows, measure(problem, rows))
    refuse_unreachable(problem, few, 0)
