"""What is known of one candidate, and the best so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from nas.evaluation.candidate import Candidate

Role = Literal["search", "reference"]


@dataclass(frozen=True)
class Evaluation:
    """What is known of one candidate: its metrics, or the reason there are none.

    metrics: one value per objective and any further measurement, units in the names.
    details: where the numbers come from (spread, target, versions, duration).
    """

    candidate: Candidate
    metrics: Mapping[str, float]
    details: Mapping[str, Any] = field(default_factory=dict)
    role: Role = "search"
    round: int = 0
    failure: str | None = None


def best_so_far(known: Sequence[Evaluation]) -> str:
    """The fastest candidate that is as accurate as the INT8 reference, once there is one."""
    good = [e for e in known if e.failure is None]
    if not good:
        return ""
    references = [e for e in good if e.role == "reference"]
    bar = min((e.metrics["accuracy"] for e in references), default=0.0)
    best = min(
        (e for e in good if e.metrics["accuracy"] >= bar), key=lambda e: e.metrics["latency_ms"]
    )
    accuracy, latency = best.metrics["accuracy"], best.metrics["latency_ms"]
    size = best.metrics["size_bytes"] / 1000
    return f"best: {accuracy:.4f}, {latency:.3f} ms, {size:.0f} kB"
