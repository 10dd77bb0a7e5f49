"""What is known of one candidate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, NamedTuple, Self

from hardware.latency import Latency
from nas.evaluation.candidate import Candidate

Role = Literal["search", "reference"]


@dataclass(frozen=True)
class Details:
    """Where a candidate's metrics come from.

    latency: with its spread. coverage: which layers are really quantized, in words.
    target: the device, its flags and the versions there.
    """

    latency: Latency | None = None
    coverage: str = ""
    target: Mapping[str, Any] = field(default_factory=dict)
    duration_s: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Plain values, read back by `from_json`."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Inverse of `to_json`; a field that was not known then has its default."""
        latency = data.get("latency")
        return cls(**{**data, "latency": latency and Latency(**latency)})


class Measured(NamedTuple):
    """What was measured of a candidate: one value per metric, units in the names, and details."""

    metrics: Mapping[str, float]
    details: Details


@dataclass(frozen=True)
class Evaluation:
    """What is known of one candidate: its metrics, or the reason there are none.

    finished_s: when, in seconds since 1970; None where it was not kept. A candidate measured again
    is the same.
    """

    candidate: Candidate
    metrics: Mapping[str, float]
    details: Details = field(default_factory=Details)
    role: Role = "search"
    round: int = 0
    failure: str | None = None
    finished_s: float | None = field(default=None, compare=False)

    @property
    def disturbed(self) -> bool:
        """Whether other work had a part in its latency."""
        return self.details.latency is not None and self.details.latency.disturbed


def searched(evaluations: Sequence[Evaluation]) -> list[Evaluation]:
    """Those that a search asked for and that did not fail."""
    return [e for e in evaluations if e.role == "search" and e.failure is None]


def believed(
    evaluations: Sequence[Evaluation], expected: Mapping[str, float], metric: str
) -> list[Evaluation]:
    """Evaluations with what is expected of them, by key, in place of what was measured."""
    return [
        replace(e, metrics={**e.metrics, metric: expected[e.candidate.key]})
        if e.candidate.key in expected
        else e
        for e in evaluations
    ]
