"""pymoo's NSGA-II on measured candidates, without predictors."""

from __future__ import annotations

import numpy as np
from pymoo.core.population import Population
from pymoo.operators.survival.rank_and_crowding import RankAndCrowding

from nas.experiment.objectives import FloatArray
from nas.experiment.search_settings import GeneticOptions
from nas.search.problem import History
from nas.search.pymoo_operators import GenomeProblem, genetic_algorithm
from nas.search.strategy import Strategy
from supernets.space.space import Genomes


class MeasuredNSGA2(Strategy):
    """NSGA-II (Deb et al. 2002) whose every individual is measured.

    Parents are the survivors of the whole history, which is what elitism leaves over anyway; so a
    proposal needs no state of its own.
    """

    def suggest(self, history: History, n: int, rng: np.random.Generator) -> Genomes:
        """Nothing until the population is full, then children."""
        good, size = history.ranked, self.settings.options(GeneticOptions).population
        if len(history.good) < size:
            return self.problem.space.sample(0, rng)
        costs, violations = self.problem.costs(good.values), self.problem.violations(good.values)
        frame = GenomeProblem(self.problem.space, _unscored, costs.shape[1], violations.shape[1])
        measured = Population.new("X", good.genomes, "F", costs, "G", violations)
        for individual, missed in zip(measured, violations.sum(axis=1), strict=True):
            individual.CV = np.array([missed])
        parents = RankAndCrowding().do(frame, measured, n_survive=size, random_state=rng)
        algorithm = genetic_algorithm(self.problem.space, size, n_costs=2)
        mating = algorithm.mating
        children = mating.do(frame, parents, 4 * n, algorithm=algorithm, random_state=rng)
        return np.asarray(children.get("X"), dtype=np.int64)


def _unscored(genomes: Genomes) -> tuple[FloatArray, FloatArray]:
    raise AssertionError("children are measured, not scored")
