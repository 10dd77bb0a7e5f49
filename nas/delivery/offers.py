"""Which of the delivered models is offered for which need."""

from __future__ import annotations

from collections.abc import Sequence

from nas.delivery.best import best_delivered
from nas.delivery.promise import Offer, allowed_drops, cost_of
from nas.delivery.results import ValidatedModel
from nas.experiment.objectives import Cost
from supernets.metrics.metric import Quality


def offers(
    models: Sequence[ValidatedModel],
    metric: Quality,
    low: ValidatedModel,
    no_loss: float | None,
    cost: Cost = "latency_ms",
) -> tuple[Offer, ...]:
    """The model for every need, in their order; the same one may be the best for several.

    low: the reference in low precision. no_loss: how much worse a model may be expected to be that
    is not distinguishably so, see `allowed_drops`. cost: see `cost_of`. A latency that was
    disturbed is believed, and a model that a runtime answers otherwise for is taken, only where
    that is so of all.
    """
    drops, found = allowed_drops(metric, low.validation_score, no_loss), []
    for need, drop in drops.items():
        tested = 0.0 if need == "no_loss" else drop
        good = [m for m in models if m.promise and m.promise.keeps(metric, drop, tested)]
        best = best_delivered(good, cost_of(need, cost))
        assert best.promise is not None
        found.append(Offer(need, best.name, best.promise))
    return tuple(found)
