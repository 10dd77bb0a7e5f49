"""The first screen: which model to take for which need, and how sure that is."""

from __future__ import annotations

from dataclasses import dataclass

from nas.delivery.promise import Promise, in_words
from nas.delivery.results import Front, ValidatedModel, mark, smaller
from nas.reporting.offers import between, on_test


@dataclass(frozen=True)
class Need:
    """A need, the model for it, and what is known of that: (what, in words)."""

    title: str
    model: str
    known: tuple[tuple[str, str], ...]


def needs_of(front: Front) -> list[Need]:
    """The offers; of a front without any, the recommended, the fastest and the smallest model."""
    if front.offers:
        return [
            Need(
                in_words(offer.need),
                offer.model,
                (*_measured(front.model(offer.model), front), *_promised(offer.promise, front)),
            )
            for offer in front.offers
        ]
    models = {
        "recommended" if front.models[0].test_score is not None else "best so far": front.model(
            front.recommended
        ),
        "fastest": min(front.models, key=lambda m: (m.latency_disturbed, m.latency_ms[0])),
        "smallest": min(front.models, key=lambda m: m.size_bytes),
    }
    return [
        Need(title, model.name, tuple(_measured(model, front))) for title, model in models.items()
    ]


def _measured(model: ValidatedModel, front: Front) -> list[tuple[str, str]]:
    """Speed, size and score, each beside the reference in low precision."""
    low, metric = front.low, front.quality.title
    speed, size = f"{model.latency_ms[0]:.3g} ms", f"{model.size_bytes / 1000:,.1f} kB"
    split, value = "test", model.test_score
    if value is None:
        split, value = "validation", model.validation_score
    score = f"{value:.4f}"
    if model.name != low and low in model.versus:
        versus = model.versus[low]
        speed += f", {versus.latency_ratio:.2f}x as fast as {low}"
        if value is model.test_score:
            interval = f"{versus.latency_ratio_low:.2f} to {versus.latency_ratio_high:.2f}"
            speed += f" (95 %: {interval})"
        speed += mark(versus.latency_disturbed)
        size += f", {smaller(versus.size_ratio)}"
        score += f", against {low} {on_test(versus)}"
    known = [("speed", speed), ("size", size), (f"{split} {metric}", score)]
    if model.end_to_end_ms is not None:
        whole = f"{model.end_to_end_ms[0]:.3g} ms{mark(model.end_to_end_disturbed)}"
        known.insert(1, ("end to end, with preprocessing", whole))
    return known


def _promised(promise: Promise, front: Front) -> list[tuple[str, str]]:
    low = front.low
    return [
        (
            f"against {low} on {promise.samples:,} validation samples",
            f"{between(promise.difference, promise.low, promise.high)}, paired test p = "
            f"{promise.p:.2g}",
        ),
        (
            "expected on test",
            between(promise.expected, promise.expected_low, promise.expected_high),
        ),
    ]
