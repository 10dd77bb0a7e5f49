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


class Foretold(NamedTuple):
    """A score that is expected of a candidate, and its standard deviation: 0 of one that came."""

    score: float
    doubt: float


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
        """Fitted to the polished ones, on the scale of the full network's score."""
        rows = np.array(list(self.known.values())).reshape(-1, 3)
        gains = np.array([self.metric.worse_by(row[0], row[1]) for row in rows])
        lacking = np.array([self.metric.worse_by(row[0], self.full) for row in rows])
        return GainModel.fit(lacking / self._scale, rows[:, 2], gains / self._scale)

    @property
    def _scale(self) -> float:
        return self.metric.scale(self.full) or 1.0  # an error of nothing has none

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

    def foretold(self, evaluations: Sequence[Evaluation]) -> dict[str, Foretold]:
        """Candidate's key -> the score that polishing is expected to lead to.

        Those of polished candidates are as they came. Of none while too few were polished.
        """
        if not evaluations or len(self.known) < self.least:
            return {}
        before = np.array([e.metrics[self.metric.name] for e in evaluations])
        lacking = np.array([self.metric.worse_by(value, self.full) for value in before])
        parts = np.array([few_bits(e.candidate) for e in evaluations])
        gains, doubts = self.model.predict(lacking / self._scale, parts)
        after = before + self.metric.sign * self._scale * gains
        rows = zip(evaluations, after, self._scale * doubts, strict=True)
        found = {e.candidate.key: Foretold(float(after), float(doubt)) for e, after, doubt in rows}
        came = {key: Foretold(row.after, 0.0) for key, row in self.known.items() if key in found}
        return found | came

    def by(self, keys: Collection[str]) -> Self:
        """The same by these polished candidates alone."""
        return replace(self, known={k: row for k, row in self.known.items() if k in keys})

    def polished(self, evaluations: Sequence[Evaluation], doubts: float = 0.0) -> list[Evaluation]:
        """Evaluations with scores as they are expected to be after polishing.

        doubts: standard deviations that are counted in the candidates' favour.
        """
        scores = {
            key: found.score + self.metric.sign * doubts * found.doubt
            for key, found in self.foretold(searched(evaluations)).items()
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
    scale = metric.scale(bar)
    chosen: list[Evaluation] = []
    for aim in np.linspace(0.02, 0.08, n) * scale:
        left = [e for e in evaluations if e not in chosen]

        def far(e: Evaluation, aim: float = float(aim)) -> tuple[float, float]:
            missed = abs(metric.worse_by(e.metrics[metric.name], bar) - aim)
            return round(missed / (0.01 * scale)), e.metrics[cost]

        chosen += sorted(left, key=far)[:1]
    return chosen
