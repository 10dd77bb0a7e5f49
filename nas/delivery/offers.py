"""Which of the delivered models is offered for which need."""

from __future__ import annotations

from collections.abc import Sequence

from nas.delivery.promise import Offer, allowed_drops
from nas.delivery.results import ValidatedModel
from nas.delivery.selection import fastest_delivered
from supernets.metrics.metric import Quality


def offers(
    models: Sequence[ValidatedModel], metric: Quality, low: ValidatedModel, no_loss: float | None
) -> tuple[Offer, ...]:
    """The model for every need, in their order; the same one may be the best for several.

    low: the reference in low precision. no_loss: how much worse a model may be expected to be that
    is not distinguishably so, see `allowed_drops`. A latency that was disturbed is believed, and a
    model that a runtime answers otherwise for is taken, only where that is so of all.
    """
    drops, found = allowed_drops(metric, low.validation_score, no_loss), []
    for need, drop in drops.items():
        tested = 0.0 if need == "no_loss" else drop
        good = [m for m in models if m.promise and m.promise.keeps(metric, drop, tested)]
        smallest = need == "smallest_at_2_points"
        best = min(good, key=_by_size) if smallest else fastest_delivered(good)
        assert best.promise is not None
        found.append(Offer(need, best.name, best.promise))
    return tuple(found)


def _by_size(model: ValidatedModel) -> tuple[float, ...]:
    return model.differs, model.size_bytes, model.latency_disturbed, model.latency_ms[0]
