"""LINAS: measure a round, fit predictors, search them, choose the next round.

Cummings et al. 2022, "A Hardware-Aware Framework for Accelerating Neural Architecture Search
Across Modalities", algorithm 1, is `acquisition: rank`. `acquisition: hypervolume` starts with
rows that cover the space and chooses by the expected gain in hypervolume.
"""

from __future__ import annotations

import numpy as np
from pymoo.core.population import Population
from pymoo.core.problem import Problem
from pymoo.operators.survival.rank_and_crowding import RankAndCrowding

from nas.experiment.objectives import FloatArray
from nas.experiment.search_settings import LinasOptions, SearchSettings
from nas.search.acquisition import EvenScale, pick_round
from nas.search.initial_design import covering_start, leaning_rows
from nas.search.pareto import front, reference_point
from nas.search.problem import FEWEST, History, SearchProblem, enumerate_space, new_rows
from nas.search.pymoo_operators import evolve
from nas.search.strategy import Strategy
from nas.search.surrogate import Surrogate
from supernets.space.space import Genomes

_SETTLED = 100  # measured candidates after which a round also looks beyond the front
_BOLD = 5  # then one candidate of so many does, and counts the whole deviation
_CAUTION = 0.3  # share of the predicted standard deviation that counts; 1 explores too much

_PLAIN_CONTENDERS = ("ridge", "svr")


class Linas(Strategy):
    """Predictors in the loop, a genetic algorithm over them."""

    def __init__(self, problem: SearchProblem, settings: SearchSettings, seed: int) -> None:
        super().__init__(problem, settings, seed)
        self.options = settings.options(LinasOptions)

    def suggest(self, history: History, n: int, rng: np.random.Generator) -> Genomes:
        """Candidates of the start while it lasts, then by the predictors."""
        plain = self.options.acquisition == "rank"
        start = max(self.settings.round_size, FEWEST)
        if len(history) < start or len(history.good) < FEWEST:
            return self._covering(start + n) if not plain else self.problem.space.sample(0, rng)
        contenders = _PLAIN_CONTENDERS if plain else None
        surrogate = Surrogate.fit(self.problem, history, self.seed, contenders)
        pick = self._by_rank if plain else self._by_hypervolume
        return pick(surrogate, history, n, rng)

    def _covering(self, n: int) -> Genomes:
        return covering_start(self.problem.space, n, np.random.default_rng(self.seed))

    def _by_rank(
        self, surrogate: Surrogate, history: History, n: int, rng: np.random.Generator
    ) -> Genomes:
        start = self.problem.space.sample(self.options.population, rng)
        last, _ = self._evolve(surrogate, start, rng)
        rows = new_rows(last, history.genomes)
        if not len(rows):
            return rows
        costs, violations = surrogate.score(rows)
        return rows[rank_and_crowding(costs, violations, n, rng)]

    def _by_hypervolume(
        self, surrogate: Surrogate, history: History, n: int, rng: np.random.Generator
    ) -> Genomes:
        problem, good = self.problem, history.ranked
        costs = problem.costs(good.values)
        feasible = (problem.violations(good.values) == 0).all(axis=1)
        rows = new_rows(self._pool(surrogate, good.genomes[front(costs)], rng), history.genomes)
        if not len(rows):
            return rows
        values, stds = surrogate.values(rows), surrogate.stds(rows)
        mean, std = problem.costs(values), stds[:, : len(problem.objectives)]
        even, likely = EvenScale(costs), surrogate.feasibility(values, stds)
        measured, worst = even.costs(costs[feasible]), reference_point(even.costs(costs))
        near = reference_point(measured[front(measured)]) if len(measured) else worst
        centre = even.costs(mean)

        n_bold = n // _BOLD if len(history) >= _SETTLED else 0
        cautious = even.stds(mean, _CAUTION * std)
        chosen = pick_round(measured, centre, cautious, likely, near, n - n_bold)
        rest = np.setdiff1d(np.arange(len(rows)), chosen)
        measured, bold = np.vstack([measured, centre[chosen]]), even.stds(mean, std)
        beyond = pick_round(measured, centre[rest], bold[rest], likely[rest], worst, n_bold)
        return np.asarray(rows[np.concatenate([chosen, rest[beyond]])], dtype=np.int64)

    def _pool(self, surrogate: Surrogate, best: Genomes, rng: np.random.Generator) -> Genomes:
        """What is worth a closer look: the whole of a small space, else what evolution visits."""
        everything = enumerate_space(self.problem.space)
        if everything is not None:
            return everything
        best = best[: self.options.population // 2]
        space, missing = self.problem.space, self.options.population - len(best)
        fill = space.canonical(leaning_rows(space, missing, rng))
        last, visited = self._evolve(surrogate, np.concatenate([best, fill]), rng)
        return np.concatenate([last, visited])

    def _evolve(
        self, surrogate: Surrogate, start: Genomes, rng: np.random.Generator
    ) -> tuple[Genomes, Genomes]:
        seed = int(rng.integers(2**31))
        return evolve(self.problem.space, surrogate.score, start, self.options.generations, seed)


def rank_and_crowding(
    costs: FloatArray, violations: FloatArray, n: int, rng: np.random.Generator
) -> Genomes:
    """Positions of the best `n` rows by non-dominated rank, then by crowding."""
    if len(costs) <= n:
        return np.arange(len(costs))
    frame = Problem(n_var=1, n_obj=costs.shape[1], n_ieq_constr=violations.shape[1])
    rows = Population.new("X", np.arange(len(costs))[:, None], "F", costs, "G", violations)
    rows.set("CV", violations.sum(axis=1, keepdims=True))
    kept = RankAndCrowding().do(frame, rows, n_survive=n, random_state=rng)
    return np.asarray(kept.get("X")[:, 0], dtype=np.int64)
