"""The best of several candidates or models by one of their costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from scipy.special import ndtr

from nas.delivery.fastest import fastest_of
from nas.delivery.results import ValidatedModel
from nas.evaluation.record import Evaluation, believed
from nas.experiment.objectives import Cost


def best_measured(evaluations: Sequence[Evaluation], cost: Cost) -> Evaluation:
    """The candidate with least of a cost; the fastest as `fastest_of` has it."""
    if cost == "size_bytes":
        return min(evaluations, key=_by_size)
    return fastest_of(
        evaluations,
        lambda e: (e.disturbed,),
        lambda e: e.metrics["latency_ms"],
        lambda e: e.metrics["size_bytes"],
    )


def best_delivered(models: Sequence[ValidatedModel], cost: Cost) -> ValidatedModel:
    """The same of delivered models, of those that no runtime answers otherwise for."""
    if cost == "size_bytes":
        return min(models, key=_by_file_size)
    return fastest_of(
        models,
        lambda m: (m.differs, m.latency_disturbed),
        lambda m: m.latency_ms[0],
        lambda m: m.size_bytes,
    )


def most_promising(
    evaluations: Sequence[Evaluation],
    margins: Sequence[float],
    doubts: Mapping[str, float],
    cost: Cost,
    least: float,
) -> Evaluation | None:
    """The candidate with the largest expected saving over what is there, None where none saves.

    That is the logarithm of the saving times the chance that the candidate is good enough for it:
    a little faster and all but certain counts as much as far faster and half as likely.

    margins: by how much of the metric each is expected to be better than it must, `(n,)`. doubts:
    candidate's key -> standard deviation of that; without one it is good enough for certain.
    least: the cost of the best that is there already.
    """
    saving, expected = dict[str, Evaluation](), dict[str, float]()
    for evaluation, margin in zip(evaluations, margins, strict=True):
        key, own = evaluation.candidate.key, evaluation.metrics[cost]
        if own < least:
            doubt = doubts.get(key, 0.0)
            chance = float(ndtr(margin / doubt)) if doubt else 1.0
            saving[key], expected[key] = evaluation, least * (own / least) ** chance
    if not saving:
        return None
    best = best_measured(believed(list(saving.values()), expected, cost), cost)
    return saving[best.candidate.key]


def _by_size(evaluation: Evaluation) -> tuple[float, ...]:
    return evaluation.disturbed, evaluation.metrics["size_bytes"], evaluation.metrics["latency_ms"]


def _by_file_size(model: ValidatedModel) -> tuple[float, ...]:
    return model.differs, model.size_bytes, model.latency_disturbed, model.latency_ms[0]
