from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

from nas.experiment.objectives import FloatArray, parse_constraint
from nas.search.problem import FEWEST, History, SearchProblem
from nas.search.rounding import rounding_features
from nas.search.surrogate import Surrogate, gene_features
from predictors.features import levels, one_hot
from supernets.space.space import Gene, Genomes, Requires, SearchSpace
from tests.sample_problems import block_problem, measure


@pytest.fixture
def fitted() -> tuple[SearchProblem, Surrogate]:
    constraints = (parse_constraint("accuracy >= 0.8"), parse_constraint("size_bytes <= 2000"))
    bare = block_problem(4, constraints=constraints)
    sizes = bare.column("size_bytes")
    problem = block_problem(
        4,
        constraints=constraints,
        exact={"size_bytes": lambda genomes: measure(bare, genomes)[:, sizes]},
    )
    genomes = problem.space.sample(60, np.random.default_rng(0))
    history = History.empty(problem).append(genomes, measure(problem, genomes))
    return problem, Surrogate.fit(problem, history, 0)


def test_exact_metrics_are_computed_and_certain(fitted: tuple[SearchProblem, Surrogate]) -> None:
    problem, surrogate = fitted
    genomes = problem.space.sample(30, np.random.default_rng(1))
    values, stds = surrogate.values(genomes), surrogate.stds(genomes)
    assert set(surrogate.predictors) == {"accuracy", "latency_ms"}
    assert np.array_equal(values[:, 2], measure(problem, genomes)[:, 2])
    assert (stds[:, 2] == 0).all()
    assert (stds[:, :2] > 0).all()
    assert np.corrcoef(values[:, 1], measure(problem, genomes)[:, 1])[0, 1] > 0.95


def test_feasibility_is_the_product_of_probabilities_up_to_a_factor(
    fitted: tuple[SearchProblem, Surrogate],
) -> None:
    _, surrogate = fitted
    values = np.array([[0.82, 1.0, 1500.0], [0.79, 1.0, 1500.0], [0.9, 1.0, 2500.0]])
    stds = np.array([[0.02, 0.1, 0.0]] * 3)
    probability = norm.cdf((values[:, 0] - 0.8) / 0.02) * (values[:, 2] <= 2000)
    assert np.allclose(surrogate.feasibility(values, stds), probability / probability.max())


def test_the_least_hopeless_row_still_counts(fitted: tuple[SearchProblem, Surrogate]) -> None:
    _, surrogate = fitted
    values = np.array([[0.1, 1.0, 1500.0], [0.2, 1.0, 1500.0]])
    feasibility = surrogate.feasibility(values, np.array([[0.001, 0.1, 0.0]] * 2))
    assert feasibility.tolist() == [0.0, 1.0]


def test_latency_is_learnt_from_the_structure_alone() -> None:
    bare = block_problem(12)
    scales = np.random.default_rng(2).uniform(0.5, 2.0, len(bare.space.genes))

    def latency(genomes: Genomes) -> FloatArray:
        return genomes @ scales

    problem = replace(bare, features=lambda genomes: latency(genomes)[:, None])
    column, rng = problem.column("latency_ms"), np.random.default_rng(0)

    def values(genomes: Genomes) -> FloatArray:
        known = measure(problem, genomes)
        known[:, column] = 1 + latency(genomes)
        return known

    genomes, unseen = problem.space.sample(20, rng), problem.space.sample(200, rng)
    told = Surrogate.fit(problem, History.empty(problem).append(genomes, values(genomes)), 0)
    untold = Surrogate.fit(bare, History.empty(bare).append(genomes, values(genomes)), 0)
    true = values(unseen)[:, column]
    assert np.allclose(told.values(unseen)[:, column], true, rtol=0.02)
    assert not np.allclose(untold.values(unseen)[:, column], true, rtol=0.02)
    assert np.array_equal(told.values(unseen)[:, 0], untold.values(unseen)[:, 0])  # accuracy


def test_disturbed_latencies_are_not_learnt_from_nor_ranked_by() -> None:
    problem, rng = block_problem(4), np.random.default_rng(0)
    calm, busy = problem.space.sample(20, rng), problem.space.sample(10, rng)
    values = measure(problem, busy)
    wrong = values * [1.0, 0.01]  # a hundred times too fast
    without = History.empty(problem).append(calm, measure(problem, calm))
    history = without.append(busy, wrong, np.ones(10, bool))
    true = Surrogate.fit(problem, without, 0).values(busy)[:, 1]
    both = Surrogate.fit(problem, history, 0)
    assert np.array_equal(both.values(busy)[:, 1], true)
    measured_accuracy = History.empty(problem).append(
        np.concatenate([calm, busy]), np.concatenate([measure(problem, calm), values])
    )
    told = Surrogate.fit(problem, measured_accuracy, 0)
    assert np.array_equal(both.values(busy)[:, 0], told.values(busy)[:, 0])
    assert np.array_equal(history.ranked.genomes, calm)
    few = History.empty(problem).append(busy, wrong, np.arange(10) >= FEWEST - 1)
    assert np.array_equal(few.ranked.genomes, busy)  # too few others to go by


def test_precisions_are_told_by_the_energy_of_their_errors_and_their_arithmetic() -> None:
    names = ("int2", "int8_weight_only", "int8")
    genes = [Gene("depth", (1, 2)), Gene.precision("a", names)]
    space = SearchSpace((*genes, Gene.precision("b", names, Requires("depth", 2))))
    found = rounding_features(space, np.array([[1, 0, 2], [1, 1, 0], [0, 0, 0]]))
    a, b = 4.0**-2, 4.0**-8
    assert np.allclose(
        found,
        [
            [a, b, 1, 1, (a + b) / 2, 1],
            [b, a, 0, 1, (a + b) / 2, 0.5],
            [a, 0, 1, 0, a, 1],  # a layer that is not there rounds nothing
        ],
        atol=0,
    )


def test_where_no_layer_may_have_few_bits_genes_are_told_one_by_one() -> None:
    problem = block_problem(4)
    genomes = problem.space.sample(9, np.random.default_rng(0))
    assert rounding_features(problem.space, genomes).shape == (9, 0)
    active, n = problem.space.active(genomes), problem.space.n_choices
    told = np.hstack([one_hot(genomes, n, active), levels(genomes, n, active)])
    assert np.array_equal(gene_features(problem, genomes), told)
