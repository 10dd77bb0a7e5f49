"""Values of unmeasured candidates: computed where they are known exactly, predicted elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from nas.objectives import FloatArray
from nas.problem import History, SearchProblem
from predictors.features import levels, one_hot
from predictors.regressors import Regressor
from predictors.selection import CONTENDERS, Predictor, select
from supernets.space import Genomes


def predictor_features(problem: SearchProblem, genomes: Genomes, metric: str) -> FloatArray:
    """Genes one-hot and as levels, structural features, prior: `(n_samples, n_features)`."""
    space = problem.space
    active = space.active(genomes)
    blocks = [
        one_hot(genomes, space.n_choices, active),
        levels(genomes, space.n_choices, active),
    ]
    if problem.features is not None:
        blocks.append(problem.features(genomes))
    if metric in problem.priors:
        blocks.append(problem.priors[metric](genomes)[:, None])
    return np.hstack(blocks)


@dataclass(frozen=True)
class Surrogate:
    """Predictors of the metrics that are not exactly known, fitted to a history."""

    problem: SearchProblem
    predictors: Mapping[str, Predictor]

    @classmethod
    def fit(
        cls,
        problem: SearchProblem,
        history: History,
        seed: int,
        contenders: Mapping[str, Regressor] = CONTENDERS,
    ) -> Surrogate:
        """Choose and fit a predictor per metric on the candidates that did not fail."""
        good = history.good
        cheap = None if problem.cheap is None else problem.cheap(good.genomes)
        predictors = {
            metric.name: select(
                predictor_features(problem, good.genomes, metric.name),
                good.values[:, column],
                cheap,
                contenders,
                seed,
            )
            for column, metric in enumerate(problem.metrics)
            if metric.name not in problem.exact
        }
        return cls(problem, predictors)

    def values(self, genomes: Genomes) -> FloatArray:
        """Expected values of all metrics `(n_samples, n_metrics)`."""
        columns = [
            self.problem.exact[metric.name](genomes)
            if metric.name in self.problem.exact
            else self.predictors[metric.name].predict(
                predictor_features(self.problem, genomes, metric.name)
            )
            for metric in self.problem.metrics
        ]
        return np.stack(columns, axis=1)

    def stds(self, genomes: Genomes) -> FloatArray:
        """Standard deviations of all metrics `(n_samples, n_metrics)`, 0 where exact."""
        columns = [
            np.zeros(len(genomes))
            if metric.name in self.problem.exact
            else self.predictors[metric.name].predict_std(
                predictor_features(self.problem, genomes, metric.name)
            )
            for metric in self.problem.metrics
        ]
        return np.stack(columns, axis=1)

    def score(self, genomes: Genomes) -> tuple[FloatArray, FloatArray]:
        """Predicted costs and constraint violations, as the genetic algorithm wants them."""
        values = self.values(genomes)
        return self.problem.costs(values), self.problem.violations(values)

    def feasibility(self, values: FloatArray, stds: FloatArray) -> FloatArray:
        """Probability that all constraints hold `(n_samples,)`."""
        probability = np.ones(len(values))
        for constraint in self.problem.constraints:
            column = self.problem.column(constraint.metric)
            room = constraint.bound - values[:, column]
            room = room if constraint.relation == "<=" else -room
            std = stds[:, column]
            probability *= np.where(std > 0, ndtr(room / np.where(std > 0, std, 1.0)), room >= 0)
        return probability
