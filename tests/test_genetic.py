import numpy as np
import pytest

from nas.search.pareto import hypervolume, reference_point
from nas.search.problem import enumerate_space
from nas.search.pymoo_operators import evolve, reference_directions
from tests.sample_problems import block_problem, measure


def scored(problem):
    def score(genomes):
        values = measure(problem, genomes)
        return problem.costs(values), problem.violations(values)

    return score


@pytest.mark.parametrize("names", [("accuracy", "latency_ms"), ("accuracy", "size_bytes")])
def test_evolution_finds_nearly_all_of_an_enumerable_front(names):
    problem = block_problem(3, names)
    score, rng = scored(problem), np.random.default_rng(0)
    everything = score(enumerate_space(problem.space))[0]
    last, visited = evolve(problem.space, score, problem.space.sample(40, rng), 25, seed=0)
    reference = reference_point(everything)
    share = hypervolume(score(visited)[0], reference) / hypervolume(everything, reference)
    assert share > 0.99
    assert len(visited) < problem.space.size
    assert np.array_equal(visited, problem.space.canonical(visited))
    assert len(np.unique(last, axis=0)) == len(last)


def test_four_objectives_run_and_repeat_with_the_seed():
    problem = block_problem(4)
    start = problem.space.sample(20, np.random.default_rng(0))

    def score(genomes):
        values = measure(problem, genomes)
        costs = np.hstack([values * [-1, 1], values * [-2, 0.5] + genomes[:, :2]])
        return costs, np.zeros((len(genomes), 0))

    runs = [evolve(problem.space, score, start, 5, seed=3)[0] for _ in range(2)]
    assert np.array_equal(*runs)


@pytest.mark.parametrize(("n_costs", "population"), [(4, 4), (4, 100), (5, 60)])
def test_reference_directions_fit_the_population(n_costs, population):
    directions = reference_directions(n_costs, population)
    assert len(directions) <= population
    assert np.allclose(directions.sum(axis=1), 1)
