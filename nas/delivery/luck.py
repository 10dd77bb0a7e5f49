"""How much of a score is the luck of the best of many on the same samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from nas.experiment.objectives import FloatArray
from nas.search.predictor_report import PredictorReport
from supernets.metrics.metric import Quality

UNSHARED = 0.5
"""Part of a score's variance by its samples that candidates do not share: models of one
super-network are right about much the same samples."""
FEWEST = 10
"""Candidates below which neither predictions nor luck are worth talking of."""


def expected_luck(
    measured: FloatArray, predicted: FloatArray, variance: float, metric: Quality
) -> FloatArray:
    """Part of each score `(n,)` that other samples are not expected to show.

    What a score has beyond its prediction is partly the candidate's own and partly its luck with
    the samples; as much of it is luck as the variance by the samples is of the variance of all
    that is beyond predictions (James and Stein's shrinkage towards a regression). The better half
    tells that variance: the worse one is both harder to predict and never chosen.

    predicted: by predictors that had not seen the candidate. variance: of a score by its samples,
    what all candidates share of it left out.
    """
    if len(measured) < FEWEST:
        return np.zeros(len(measured))
    beyond = measured - predicted
    order = np.argsort(predicted if metric.direction == "maximize" else -predicted)
    better = order[len(order) // 2 :]
    spread = float(np.mean(beyond[better] ** 2))
    share = 1.0 if spread <= variance else variance / spread
    return np.asarray(share * beyond)


def luck_by_key(
    keys: Sequence[str],
    predictors: Sequence[PredictorReport],
    variance: float,
    metric: Quality,
) -> Mapping[str, float]:
    """Candidate's key -> luck in its score; empty where the score is not predicted.

    keys: of the candidates that predictors were judged on, in their order.
    """
    report = next((p for p in predictors if p.metric == metric.name), None)
    if report is None:
        return {}
    measured, predicted = np.array(report.measured), np.array(report.predicted)
    luck = expected_luck(measured, predicted, variance, metric)
    return dict(zip(keys, luck.tolist(), strict=True))
