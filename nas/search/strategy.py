"""The one interface of all search strategies, and how one is made."""

from __future__ import annotations

from abc import ABC, abstractmethod
from importlib import import_module

import numpy as np

from nas.experiment.search_settings import STRATEGIES, SearchSettings
from nas.search.problem import History, SearchProblem, new_rows, sample_new
from supernets.space.space import Genomes


class Strategy(ABC):
    """Chooses what to measure next.

    A subclass suggests. Whatever it suggests, what is proposed is canonical, distinct, never
    measured, and as many as were asked for.
    """

    def __init__(self, problem: SearchProblem, settings: SearchSettings, seed: int) -> None:
        self.problem, self.settings, self.seed = problem, settings, seed

    @abstractmethod
    def suggest(self, history: History, n: int, rng: np.random.Generator) -> Genomes:
        """Genomes `(any number, n_genes)`, the best first; missing ones are drawn at random.

        Depends on seed and arguments alone, so a resumed run goes on as if never stopped.
        """

    def propose(self, history: History, n: int) -> Genomes:
        """`n` canonical, distinct, never measured genomes, `(n, n_genes)`.

        Fewer only when everything in the space has been measured.
        """
        rng, space = np.random.default_rng([self.seed, len(history)]), self.problem.space
        rows = space.canonical(self.suggest(history, n, rng))
        rows = new_rows(rows, history.genomes)[:n]
        known = np.concatenate([history.genomes, rows])
        return np.concatenate([rows, sample_new(space, n - len(rows), known, rng)])


class RandomSearch(Strategy):
    """Every choice of every gene equally likely."""

    def suggest(self, history: History, n: int, rng: np.random.Generator) -> Genomes:
        """Nothing: what is missing is drawn at random."""
        return self.problem.space.sample(0, rng)


def make_strategy(problem: SearchProblem, settings: SearchSettings, seed: int) -> Strategy:
    """The strategy `settings.strategy` names."""
    module, _, name = STRATEGIES[settings.strategy].place.partition(":")
    made = getattr(import_module(module), name)(problem, settings, seed)
    assert isinstance(made, Strategy)
    return made
