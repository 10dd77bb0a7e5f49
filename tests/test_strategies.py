from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nas.evaluation.candidate import Candidate
from nas.experiment.load import load_experiment
from nas.experiment.objectives import parse_constraint
from nas.experiment.search_settings import (
    STRATEGIES,
    SearchSettings,
    StrategyEntry,
    StrategyOptions,
)
from nas.ledger.study import read_evaluations
from nas.pipeline import run
from nas.run.run_folder import RunFolder, read_json
from nas.search.initial_design import corners, leaning_rows
from nas.search.pareto import hypervolume, reference_point
from nas.search.problem import History, SearchProblem, enumerate_space, new_rows, sample_new
from nas.search.strategy import Strategy, make_strategy
from supernets.space.space import Gene, Genomes, SearchSpace
from tests.conftest import LITTLE
from tests.faults.victim import Still
from tests.sample_problems import block_problem, measure, play

VARIANTS = [*STRATEGIES, "rank"]
QUICK = [name for name in VARIANTS if name != "optuna-gp"]


def strategy(name: str, problem: SearchProblem, seed: int = 0, **settings: Any) -> Strategy:
    chosen = {"acquisition": "rank"} if name == "rank" else {"strategy": name}
    known = STRATEGIES[chosen.get("strategy", "linas")].options.model_fields
    quick = {
        k: v for k, v in {"population": 10, "generations": 5, **settings}.items() if k in known
    }
    return make_strategy(
        problem, SearchSettings(evaluations=40, round_size=6, **chosen, **quick), seed
    )


def failing(problem: SearchProblem, history: History, n: int = 3) -> History:
    """Declare the last `n` candidates failed."""
    values = history.values.copy()
    values[-n:] = np.nan
    return History.empty(problem).append(history.genomes, values)


@pytest.mark.parametrize("blocks", [2, 8])
@pytest.mark.parametrize("name", VARIANTS)
def test_proposals_are_canonical_distinct_and_new(name: str, blocks: int) -> None:
    problem = block_problem(blocks)
    evaluations = 12 if name == "optuna-gp" else 24  # a GP proposal takes a second
    history = play(strategy(name, problem), problem, evaluations)
    assert len(np.unique(history.genomes, axis=0)) == len(history) == evaluations
    assert np.array_equal(history.genomes, problem.space.canonical(history.genomes))
    assert (history.genomes < problem.space.n_choices).all()


@pytest.mark.parametrize("blocks", [2, 8])
@pytest.mark.parametrize("name", QUICK)
def test_a_resumed_run_proposes_the_same(name: str, blocks: int) -> None:
    problem = block_problem(blocks)
    first = play(strategy(name, problem), problem, 12)
    whole = play(strategy(name, problem), problem, 18)
    resumed = play(strategy(name, problem), problem, 18, history=first)
    assert np.array_equal(whole.genomes, resumed.genomes)
    other = play(strategy(name, problem, seed=1), problem, 12)
    assert not np.array_equal(first.genomes, other.genomes)


@pytest.mark.parametrize("name", QUICK)
def test_failed_candidates_are_survived_and_never_repeated(name: str) -> None:
    problem = block_problem(2)
    history = failing(problem, play(strategy(name, problem), problem, 12))
    more = strategy(name, problem).propose(history, 6)
    assert len(more) == 6
    assert len(new_rows(more, history.genomes)) == 6


@pytest.mark.parametrize("name", ["linas", "rank", "nsga2", "random", "optuna-tpe"])
def test_a_small_space_is_exhausted_not_repeated(name: str) -> None:
    problem = block_problem(2)
    everything = enumerate_space(problem.space)
    assert everything is not None
    assert len(everything) == problem.space.size == 90
    history = play(strategy(name, problem), problem, 200, n=45)
    assert np.array_equal(np.unique(history.genomes, axis=0), everything)
    assert len(strategy(name, problem).propose(history, 5)) == 0


@pytest.mark.parametrize("name", ["linas", "rank", "nsga2", "optuna-nsga3", "optuna-tpe"])
def test_three_objectives_and_a_constraint_run(name: str) -> None:
    constraint = parse_constraint("accuracy >= 0.8")
    problem = block_problem(6, ("accuracy", "latency_ms", "size_bytes"), constraints=(constraint,))
    history = play(strategy(name, problem), problem, 18)
    assert len(np.unique(history.genomes, axis=0)) == 18


def test_constraint_on_a_metric_that_is_no_objective_gets_its_own_column() -> None:
    constraint = parse_constraint("size_bytes <= 1000")
    problem = block_problem(4, constraints=(constraint,))
    assert [metric.name for metric in problem.metrics] == ["accuracy", "latency_ms", "size_bytes"]
    sizes = problem.column("size_bytes")
    exact = block_problem(
        4,
        constraints=(constraint,),
        exact={"size_bytes": lambda genomes: measure(problem, genomes)[:, sizes]},
    )
    history = play(strategy("linas", exact, generations=20, population=40), exact, 30)
    late = history.values[12:, sizes]
    assert (late <= 1000).all()


def test_the_start_shows_every_choice_of_every_gene() -> None:
    problem = block_problem(5)
    history = play(strategy("linas", problem, round_size=16), problem, 16, n=16)
    for column, n in enumerate(problem.space.n_choices[1:], start=1):
        active = problem.space.active(history.genomes)[:, column]
        assert set(history.genomes[active, column]) == set(range(n))
    genomes = history.genomes.tolist()
    assert problem.space.largest().tolist() in genomes
    assert problem.space.smallest().tolist() in genomes


def test_few_bits_are_rare_where_nothing_is_known_and_other_choices_alike() -> None:
    names = ("int2", "int3", "int4", "int8", "fp32")
    genes = [Gene(f"blocks.{k}.width", (1, 2, 3)) for k in range(4)]
    genes += [Gene.precision(f"layer{k}", names) for k in range(40)]
    rows = leaning_rows(SearchSpace(tuple(genes)), 4000, np.random.default_rng(0))
    met = [(rows[:, 4:] == k).mean() for k in range(5)]
    assert np.allclose(met, np.array([4, 8, 16, 16, 16]) / 60, atol=0.01)
    assert np.allclose([(rows[:, :4] == k).mean() for k in range(3)], 1 / 3, atol=0.02)


@pytest.mark.parametrize("n", [2, 3, 5])
def test_every_precision_is_tried_alone_in_the_largest_and_both_ends_in_the_smallest(
    n: int,
) -> None:
    names = ("int2", "int3", "int4", "int8", "fp32")[-n:]
    genes = [Gene("width", (1, 2)), *(Gene.precision(k, names) for k in "abc")]
    found = {tuple(row) for row in corners(SearchSpace(tuple(genes))).tolist()}
    assert {(1, k, k, k) for k in range(n)} <= found
    assert {(0, k, k, k) for k in (0, n - 1)} <= found
    assert len(found) == n + min(n, 3)


def test_predictors_find_more_than_chance() -> None:
    problem = block_problem(8)
    runs = {
        name: play(strategy(name, problem, generations=20), problem, 36, n=9)
        for name in ("linas", "rank", "random")
    }
    costs = {name: problem.costs(run.values) for name, run in runs.items()}
    reference = reference_point(np.vstack(list(costs.values())))
    volumes = {name: hypervolume(cost, reference) for name, cost in costs.items()}
    assert volumes["linas"] > volumes["rank"] > volumes["random"]


def test_sampling_fills_up_from_what_is_left() -> None:
    problem = block_problem(2)
    rng = np.random.default_rng(0)
    everything = enumerate_space(problem.space)
    assert everything is not None
    rest = sample_new(problem.space, 20, everything[7:], rng)
    assert sorted(rest.tolist()) == sorted(everything[:7].tolist())


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        ({"evaluations": 5, "round_size": 10}, "less than one round"),
        ({"population": 3}, "greater than or equal to 4"),
        ({"strategy": "annealing"}, "linas"),
        ({"evaluation": 5}, "did you mean 'evaluations'"),
        (
            {"strategy": "random", "population": 50},
            "strategy random, but of linas, nsga2",
        ),
        (
            {"strategy": "nsga2", "acquisition": "rank"},
            "of strategy nsga2, but of linas; rem",
        ),
        ({"strategy": "nsga2", "population": 2}, "greater than or equal to 4"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], part: str) -> None:
    with pytest.raises(ValueError, match=part):
        SearchSettings(**settings)


def test_what_version_0_1_wrote_down_is_read() -> None:
    """It gave every strategy every option."""
    old = {"evaluations": 20, "round_size": 10, "acquisition": "hypervolume", "generations": 60}
    for name, given, population in (("nsga2", None, 20), ("nsga2", 30, 30), ("linas", None, 100)):
        settings = SearchSettings.model_validate({"strategy": name, "population": given, **old})
        assert settings.model_dump()["population"] == population
    random = SearchSettings.model_validate({"strategy": "random", "population": None, **old})
    assert random.model_extra == {}


class CarelessOptions(StrategyOptions):
    times: int


class Careless(Strategy):
    """Suggests the smallest network again and again, its switched-off genes set at random."""

    def suggest(self, history: History, n: int, rng: np.random.Generator) -> Genomes:
        rows = np.tile(
            self.problem.space.smallest(), (self.settings.options(CarelessOptions).times, 1)
        )
        off = ~self.problem.space.active(rows)
        return np.where(off, rng.integers(0, self.problem.space.n_choices, rows.shape), rows)


def test_a_strategy_registered_from_outside_runs_a_whole_search(
    experiment_file: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = StrategyEntry("tests.test_strategies:Careless", CarelessOptions)
    monkeypatch.setitem(STRATEGIES, "careless", entry)
    careless = {"strategy": "careless", "evaluations": 12, "round_size": 6, "times": 9}
    file = experiment_file(**{**LITTLE, "search": careless})
    folder = RunFolder(tmp_path / "out")
    front = run(load_experiment(file), folder, Still())
    known = read_evaluations(load_experiment(folder.experiment), folder)
    keys = [e.candidate.key for e in known if e.role == "search"]
    assert len(set(keys)) == len(keys) == 12
    space = SearchSpace.from_json(read_json(folder.space))
    assert Candidate.from_genome(space, space.smallest()).key in keys
    assert front.front


def test_a_space_of_one_network_is_refused() -> None:
    lone = SearchSpace((Gene("depth", (3,)),))
    with pytest.raises(ValueError, match="nothing to search"):
        SearchProblem(lone, block_problem().objectives)


def test_constraints_that_contradict_once_resolved_are_refused() -> None:
    pair = (parse_constraint("latency_ms <= 0.5 * int8"), parse_constraint("latency_ms >= 4"))
    resolved = tuple(c.resolve({"int8": {"latency_ms": 6.0}}) for c in pair)
    with pytest.raises(ValueError, match=r"latency_ms >= 4 ms.*latency_ms <= 3 ms"):
        block_problem(constraints=resolved)


@pytest.mark.parametrize("name", QUICK)
def test_what_has_no_order_is_searched_too(name: str) -> None:
    """Every one of its choices is proposed, whatever the strategy."""
    genes = block_problem(2).space.genes
    activation = Gene("activation", ("relu", "tanh", "gelu"), kind="choice")
    plain = block_problem(2)
    problem = SearchProblem(SearchSpace((*genes, activation)), plain.objectives)
    history = History.empty(problem)
    for _ in range(4):
        rows = strategy(name, problem).propose(history, 6)
        values = measure(plain, rows[:, :-1]) * (1 + 0.1 * rows[:, -1:])
        history = history.append(rows, values)
    assert set(history.genomes[:, -1]) == {0, 1, 2}
    assert len(np.unique(history.genomes, axis=0)) == 24
