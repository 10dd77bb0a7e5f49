from __future__ import annotations

import numpy as np
import pytest

from nas.experiment.objectives import FloatArray
from nas.search.pareto import hypervolume, reference_point
from nas.search.problem import SearchProblem, enumerate_space
from nas.search.pymoo_operators import Score, evolve, reference_directions
from supernets.space.space import Genomes
from tests.sample_problems import block_problem, measure


def scored(problem: SearchProblem) -> Score:
    def score(genomes: Genomes) -> tuple[FloatArray, FloatArray]:
        values = measure(problem, genomes)
        return problem.costs(values), problem.violations(values)

    return score


@pytest.mark.parametrize("names", [("accuracy", "latency_ms"), ("accuracy", "size_bytes")])
def test_evolution_finds_nearly_all_of_an_enumerable_front(names: tuple[str, str]) -> None:
    problem = block_problem(3, names)
    score, rng = scored(problem), np.random.default_rng(0)
    genomes = enumerate_space(problem.space)
    assert genomes is not None
    everything = score(genomes)[0]
    last, visited = evolve(problem.space, score, problem.space.sample(40, rng), 25, seed=0)
    reference = reference_point(everything)
    share = hypervolume(score(visited)[0], reference) / hypervolume(everything, reference)
    assert share > 0.99
    assert len(visited) < problem.space.size
    assert np.array_equal(visited, problem.space.canonical(visited))
    assert len(np.unique(last, axis=0)) == len(last)


def test_four_objectives_run_and_repeat_with_the_seed() -> None:
    problem = block_problem(4)
    start = problem.space.sample(20, np.random.default_rng(0))

    def score(genomes: Genomes) -> tuple[FloatArray, FloatArray]:
        values = measure(problem, genomes)
        costs = np.hstack([values * [-1, 1], values * [-2, 0.5] + genomes[:, :2]])
        return costs, np.zeros((len(genomes), 0))

    first, second = (evolve(problem.space, score, start, 5, seed=3)[0] for _ in range(2))
    assert np.array_equal(first, second)


@pytest.mark.parametrize(("n_costs", "population"), [(4, 4), (4, 100), (5, 60)])
def test_reference_directions_fit_the_population(n_costs: int, population: int) -> None:
    directions = reference_directions(n_costs, population)
    assert len(directions) <= population
    assert np.allclose(directions.sum(axis=1), 1)
