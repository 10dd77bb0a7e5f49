"""The one interface of all search strategies, and their names."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from nas.experiment.search_settings import SearchSettings
from nas.search.linas import Linas
from nas.search.nsga2 import MeasuredNSGA2
from nas.search.optuna_samplers import OptunaGP, OptunaNSGA2, OptunaNSGA3, OptunaTPE
from nas.search.problem import History, SearchProblem, sample_new
from supernets.space.space import Genomes


class Strategy(Protocol):
    """Chooses what to measure next."""

    def __init__(self, problem: SearchProblem, settings: SearchSettings, seed: int) -> None: ...

    def propose(self, history: History, n: int) -> Genomes:
        """Up to `n` canonical, distinct, never measured genomes, `(n, n_genes)`.

        Depends on the seed and the history alone, so a resumed run goes on as if never stopped.
        Fewer rows than `n` may come at a boundary between phases; none only when everything in
        the space has been measured.
        """
        ...


class RandomSearch:
    """Every choice of every gene equally likely."""

    def __init__(self, problem: SearchProblem, settings: SearchSettings, seed: int) -> None:
        self.problem, self.seed = problem, seed

    def propose(self, history: History, n: int) -> Genomes:
        """`n` random candidates that have not been measured."""
        rng = np.random.default_rng([self.seed, len(history)])
        return sample_new(self.problem.space, n, history.genomes, rng)


STRATEGIES: dict[str, type[Strategy]] = {
    "linas": Linas,
    "nsga2": MeasuredNSGA2,
    "random": RandomSearch,
    "optuna-tpe": OptunaTPE,
    "optuna-nsga2": OptunaNSGA2,
    "optuna-nsga3": OptunaNSGA3,
    "optuna-gp": OptunaGP,
}


def make_strategy(problem: SearchProblem, settings: SearchSettings, seed: int) -> Strategy:
    """The strategy `settings.strategy` names."""
    return STRATEGIES[settings.strategy](problem, settings, seed)
