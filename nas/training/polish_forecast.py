"""What polishing will make of candidates, told from those that were polished."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

import numpy as np

from nas.evaluation.candidate import Candidate
from nas.evaluation.record import Evaluation, believed, searched
from nas.experiment.objectives import Cost
from predictors.gain import GainModel
from supernets.metrics.metric import Quality

LEAST = 2
"""Polished candidates from which others are foretold; they also say what is not so."""


class Polished(NamedTuple):
    """A candidate's score before and after, and its part of layers below 8 bits."""

    before: float
    after: float
    few_bits: float


def few_bits(candidate: Candidate) -> float:
    """Part of the layers that are stored in less than 8 bits."""
    return float(np.mean([precision.bits < 8 for precision in candidate.policy.values()]))


@dataclass(frozen=True)
class PolishForecast:
    """Scores after polishing. full: the full network's score. known: of polished candidates.

    least: polished candidates before which nothing is foretold; from none at all, by what is
    usual (`predictors/gain.py`).
    """

    metric: Quality
    full: float
    known: Mapping[str, Polished]
    least: int = LEAST

    @property
    def model(self) -> GainModel:
        """Fitted to the polished ones, in the metric's own unit."""
        rows = np.array(list(self.known.values())).reshape(-1, 3)
        gains = np.array([self.metric.worse_by(row[0], row[1]) for row in rows])
        lacking = np.array([self.metric.worse_by(row[0], self.full) for row in rows])
        return GainModel.fit(lacking, rows[:, 2], gains)

    def gained(self) -> str:
        """What polishing was worth, in words; empty before anything was polished."""
        gains = [self.metric.worse_by(row.before, row.after) for row in self.known.values()]
        if not gains:
            return ""
        better, mean = sum(gain > 0 for gain in gains), float(np.mean(gains))
        error = f" +- {np.std(gains, ddof=1) / len(gains) ** 0.5:.4f}" if len(gains) > 1 else ""
        return (
            f"{better} of {len(gains)} models are better for it, by {mean:+.4f}{error} "
            f"{self.metric.title} on average, on validation"
        )

    def expected(self, evaluations: Sequence[Evaluation]) -> tuple[list[float], list[float]]:
        """Scores that polishing is expected to lead to, and their standard deviations.

        Those of polished candidates are as they came.
        """
        before = [e.metrics[self.metric.name] for e in evaluations]
        lacking = np.array([self.metric.worse_by(value, self.full) for value in before])
        parts = np.array([few_bits(e.candidate) for e in evaluations])
        gains, errors = self.model.predict(lacking, parts)
        after, doubt = np.array(before) + self.metric.sign * gains, errors
        for row, evaluation in enumerate(evaluations):
            if (own := self.known.get(evaluation.candidate.key)) is not None:
                after[row], doubt[row] = own.after, 0.0
        return after.tolist(), doubt.tolist()

    def by(self, keys: Collection[str]) -> Self:
        """The same by these polished candidates alone."""
        return replace(self, known={k: row for k, row in self.known.items() if k in keys})

    def polished(self, evaluations: Sequence[Evaluation], doubts: float = 0.0) -> list[Evaluation]:
        """Evaluations with scores as they are expected to be after polishing.

        doubts: standard deviations that are counted in the candidates' favour.
        """
        good = searched(evaluations)
        if not good or len(self.known) < self.least:
            return list(evaluations)
        after, errors = self.expected(good)
        scores = {
            e.candidate.key: value + self.metric.sign * doubts * error
            for e, value, error in zip(good, after, errors, strict=True)
        }
        return believed(evaluations, scores, self.metric.name)


def to_try(
    evaluations: Sequence[Evaluation], low: Evaluation, metric: Quality, n: int, cost: Cost
) -> list[Evaluation]:
    """Candidates whose polishing tells most of the others': those with least of a cost at drops of
    interest.

    low: the reference in low precision, under which they lie by 2 to 8 points, evenly spaced.
    """
    bar = low.metrics[metric.name]
    scale = 1.0 if metric.direction == "maximize" else abs(bar)
    chosen: list[Evaluation] = []
    for aim in np.linspace(0.02, 0.08, n) * scale:
        left = [e for e in evaluations if e not in chosen]

        def far(e: Evaluation, aim: float = float(aim)) -> tuple[float, float]:
            missed = abs(metric.worse_by(e.metrics[metric.name], bar) - aim)
            return round(missed / (0.01 * scale)), e.metrics[cost]

        chosen += sorted(left, key=far)[:1]
    return chosen
