"""The candidate to polish next: the one expected to save most of a cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.special import ndtr

from nas.delivery.fastest import AS_FAST
from nas.evaluation.record import Evaluation
from nas.experiment.objectives import Cost


def most_promising(
    evaluations: Sequence[Evaluation],
    rooms: Sequence[float],
    doubts: Mapping[str, float],
    cost: Cost,
    least: float,
) -> Evaluation | None:
    """The candidate with the largest expected saving over what is there, None where none saves.

    That is the logarithm of the saving times the chance that the candidate is good enough for it:
    a little faster and all but certain counts as much as far faster and half as likely. Of latency,
    the smallest of those that are as good to the 3 % by which times scatter.

    rooms: by how much of the metric each is expected to be better than it must, `(n,)`. doubts:
    candidate's key -> standard deviation of that; without one it is good enough for certain.
    least: the cost of the best that is there already.
    """
    costs = np.array([e.metrics[cost] for e in evaluations])
    doubt = np.array([doubts.get(e.candidate.key, 0.0) for e in evaluations])
    room = np.array(rooms)
    sure = doubt == 0
    chances = np.where(sure, 1.0, ndtr(room / np.where(sure, 1.0, doubt)))
    savings = chances * np.log(least / costs)
    scatter = np.log(AS_FAST) if cost == "latency_ms" else 0.0
    calm = np.array([not e.disturbed for e in evaluations], bool)
    for believed in (calm, ~calm):
        worth = np.where(believed, savings, 0.0)
        if (top := worth.max(initial=0.0)) > 0:
            good = (worth > 0) & (worth >= top - scatter)
            near = [e for e, as_good in zip(evaluations, good, strict=True) if as_good]
            return min(near, key=_by_size)
    return None


def _by_size(evaluation: Evaluation) -> tuple[float, float]:
    return evaluation.metrics["size_bytes"], evaluation.metrics["latency_ms"]
