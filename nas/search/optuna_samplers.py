"""Optuna's samplers as search strategies.

Each proposal rebuilds an in-memory study from the history, so that it depends on nothing else.
"""

from __future__ import annotations

import warnings
from typing import Any, ClassVar, Literal

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, GPSampler, NSGAIIISampler, NSGAIISampler, TPESampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from nas.experiment.search_settings import GeneticOptions, SearchSettings
from nas.search.problem import History, SearchProblem, new_rows
from nas.search.strategy import Strategy
from supernets.space.space import Gene, Genomes

_ASKS = 4  # times n; samplers repeat themselves in small spaces, the rest is then drawn at random


class OptunaStrategy(Strategy):
    """Asks a sampler; genes are integers where their choices are ordered small to large."""

    generation_key: ClassVar[str | None] = None

    def __init__(self, problem: SearchProblem, settings: SearchSettings, seed: int) -> None:
        super().__init__(problem, settings, seed)
        self.distributions = {gene.name: _distribution(gene) for gene in problem.space.genes}

    def sampler(self, seed: int) -> BaseSampler:
        """The sampler, freshly seeded."""
        raise NotImplementedError

    def suggest(self, history: History, n: int, rng: np.random.Generator) -> Genomes:
        """Up to `n` candidates that have not been measured, asked one by one."""
        space = self.problem.space
        study = self._study(history, int(rng.integers(2**31)))
        found = space.sample(0, rng)
        for _ in range(_ASKS * n):
            trial = study.ask(self.distributions)
            genome = np.array([trial.params[gene.name] for gene in space.genes], dtype=np.int64)
            fresh = new_rows(space.canonical(genome[None]), np.vstack([history.genomes, found]))
            found = np.vstack([found, fresh])
            if not len(fresh):
                self._answer(study, trial, space.canonical(genome[None]), history)
            if len(found) == n:
                break
        return found

    def _study(self, history: History, seed: int) -> optuna.Study:
        directions: list[Literal["minimize"]] = ["minimize"] * len(self.problem.objectives)
        verbosity = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = optuna.create_study(sampler=self.sampler(seed), directions=directions)
        optuna.logging.set_verbosity(verbosity)
        unranked = history.unranked
        study.add_trials(self._trial(history, row, gone) for row, gone in enumerate(unranked))
        return study

    def _trial(self, history: History, position: int, unranked: bool) -> FrozenTrial:
        params = dict(zip(self.distributions, history.genomes[position].tolist(), strict=True))
        if unranked:
            return create_trial(
                state=TrialState.FAIL, params=params, distributions=self.distributions
            )
        values = history.values[position : position + 1]
        marks: dict[str, Any] = {}
        if self.generation_key is not None:
            marks[self.generation_key] = position // self.population
        missed = self.problem.violations(values)[0].tolist()
        return create_trial(
            values=self.problem.costs(values)[0].tolist(),
            params=params,
            distributions=self.distributions,
            system_attrs=marks,
            constraints={str(k): v for k, v in enumerate(missed)},
        )

    def _answer(
        self, study: optuna.Study, trial: optuna.Trial, genome: Genomes, history: History
    ) -> None:
        """Tell a repeated candidate's known costs; nothing yet for one of this very round."""
        same = np.flatnonzero((history.genomes == genome).all(axis=1))
        if not len(same) or history.unranked[same[0]]:
            study.tell(trial, state=TrialState.FAIL)
        else:
            study.tell(trial, self.problem.costs(history.values[same[:1]])[0].tolist())

    @property
    def population(self) -> int:
        """Candidates per generation of the genetic samplers."""
        return self.settings.options(GeneticOptions).population


def _distribution(gene: Gene) -> BaseDistribution:
    last = len(gene.choices) - 1
    if gene.kind == "choice":
        return CategoricalDistribution(range(last + 1))
    return IntDistribution(0, last)


class OptunaTPE(OptunaStrategy):
    """Multi-objective tree-structured Parzen estimator (Ozaki et al. 2022)."""

    def sampler(self, seed: int) -> BaseSampler:
        """TPE with Optuna's defaults."""
        return TPESampler(seed=seed)


class OptunaNSGA2(OptunaStrategy):
    """Optuna's NSGA-II."""

    generation_key = "NSGAIISampler:generation"

    def sampler(self, seed: int) -> BaseSampler:
        """NSGA-II."""
        return NSGAIISampler(population_size=self.population, seed=seed)


class OptunaNSGA3(OptunaStrategy):
    """Optuna's NSGA-III."""

    generation_key = "NSGAIIISampler:generation"

    def sampler(self, seed: int) -> BaseSampler:
        """NSGA-III."""
        with warnings.catch_warnings():  # experimental since Optuna 3.2, which the user chose
            warnings.simplefilter("ignore", ExperimentalWarning)
            return NSGAIIISampler(population_size=self.population, seed=seed)


class OptunaGP(OptunaStrategy):
    """Optuna's Gaussian process with expected hypervolume improvement."""

    def sampler(self, seed: int) -> BaseSampler:
        """The Gaussian-process sampler."""
        return GPSampler(seed=seed)
