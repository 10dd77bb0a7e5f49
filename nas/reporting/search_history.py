"""How a search went on: what it covered after every evaluation, and when each model was found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nas.evaluation.record import Evaluation, searched
from nas.experiment.metrics import Metric
from nas.experiment.objectives import to_costs
from nas.search.pareto import hypervolume, reference_point


@dataclass(frozen=True)
class Step:
    """One evaluation of a search, in the order in which they were finished.

    minutes: in which candidates were being measured until then; None where no times were kept.
    hypervolume: of all measured until then, as a share of what the whole search covered.
    """

    key: str
    number: int
    minutes: float | None
    hypervolume: float


def steps_of(evaluations: Sequence[Evaluation], objectives: Sequence[Metric]) -> list[Step]:
    """Every successful evaluation of the search; objectives span the covered volume."""
    kept = sorted(
        searched(evaluations), key=lambda e: (e.finished_s or 0.0, e.round, e.candidate.key)
    )
    if not kept or not objectives:
        return []
    rows = [[e.metrics[objective.name] for objective in objectives] for e in kept]
    costs = to_costs(np.array(rows), objectives)
    reference, minutes = reference_point(costs), minutes_of(kept)
    covered = [hypervolume(costs[: n + 1], reference) for n in range(len(kept))]
    total = covered[-1] or 1.0
    return [
        Step(e.candidate.key, n, minute, volume / total)
        for n, (e, minute, volume) in enumerate(zip(kept, minutes, covered, strict=True), 1)
    ]


def minutes_of(evaluations: Sequence[Evaluation]) -> list[float | None]:
    """Minutes in which anything was being measured, until each evaluation was finished.

    Pauses of the run do not count, and what several processes did at once counts once.
    evaluations: by the time they were finished.
    """
    found: list[float | None] = []
    worked, until = 0.0, float("-inf")
    for evaluation in evaluations:
        end = evaluation.finished_s
        if end is None:
            found.append(None)
            continue
        start = max(end - evaluation.details.duration_s, until)
        worked, until = worked + max(0.0, end - start), max(end, until)
        found.append(worked / 60)
    return found
