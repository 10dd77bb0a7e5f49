"""The best so far: what the run would recommend if it ended now."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hardware.formats.format import Format
from hardware.formats.fp32 import FP32
from hardware.formats.int8 import INT8
from hardware.formats.policy import QuantPolicy
from nas.delivery.best import best_measured
from nas.delivery.fastest import AS_FAST
from nas.delivery.selection import best_so_far, wanted
from nas.evaluation.candidate import Candidate
from nas.evaluation.record import Evaluation, Role
from nas.experiment.schema import Experiment


def evaluation(
    accuracy: float, latency_ms: float, precision: Format, role: Role = "search"
) -> Evaluation:
    candidate = Candidate((("width", round(latency_ms * 1000)),), QuantPolicy({"head": precision}))
    metrics = {"accuracy": accuracy, "latency_ms": latency_ms, "size_bytes": 2000.0}
    return Evaluation(candidate, metrics, role=role)


REFERENCES = [
    evaluation(0.90, 4.0, FP32, "reference"),
    evaluation(0.88, 2.0, INT8, "reference"),
]


def experiment(accuracy_drop: float, *constraints: str) -> Experiment:
    values = {
        "name": "best",
        "model": {"checkpoint": "checkpoint"},
        "data": {"name": "digits"},
        "constraints": constraints,
        "export": {"accuracy_drop": accuracy_drop},
    }
    return Experiment.model_validate(values)


def test_nothing_is_best_before_the_references_are_measured() -> None:
    assert best_so_far(REFERENCES[:1], experiment(0.0)) == ""
    assert "none" in best_so_far(REFERENCES, experiment(0.0))


@pytest.mark.parametrize(
    ("accuracy_drop", "constraints", "best"),
    [
        (0.0, (), "0.8900, 1.600 ms (1.25x as fast as int8), 2 kB"),
        (0.02, (), "0.8600, 1.000 ms (2.00x as fast as int8), 2 kB"),
        (0.1, (), "0.8000, 0.500 ms (4.00x as fast as int8), 2 kB"),
        (0.1, ("accuracy >= int8 - 0.03",), "0.8600, 1.000 ms (2.00x as fast as int8), 2 kB"),
        (0.1, ("accuracy >= 0.895",), None),
        (0.0, ("latency_ms <= 1 ms",), None),
    ],
)
def test_the_best_keeps_constraints_and_accepted_drop(
    accuracy_drop: float, constraints: tuple[str, ...], best: str | None
) -> None:
    """The INT8 reference is in neither case: a search that has found nothing better shows it."""
    pairs = [(0.89, 1.6), (0.86, 1.0), (0.80, 0.5), (0.89, 1.9)]
    searched = [evaluation(*pair, INT8) for pair in pairs]
    failed = Evaluation(searched[0].candidate, {}, failure="broken")
    shown = best_so_far([*REFERENCES, failed, *searched], experiment(accuracy_drop, *constraints))
    assert shown == f"best: {best}" if best else "none yet" in shown


def sized(latency_ms: float, size_bytes: float) -> Evaluation:
    made = evaluation(0.89, latency_ms, INT8)
    return replace(made, metrics={**made.metrics, "size_bytes": size_bytes})


def test_the_smallest_is_best_where_only_size_is_asked_for() -> None:
    """And where both are, the fastest."""
    small, fast = sized(1.8, 1000), sized(1.0, 1900)
    sizes = experiment(0.02).model_copy(update={"objectives": ("accuracy", "size_bytes")})
    both = experiment(0.02)
    known = [*REFERENCES, small, fast]
    assert best_so_far(known, sizes).endswith("1 kB")
    assert best_so_far(known, both).endswith("2 kB")
    assert wanted(known, sizes)[0] == small
    assert wanted(known, both)[0] == fast


def test_latency_within_noise_is_not_bought_with_size() -> None:
    """The smallest of those within 3 % of the fastest, and never one that another beats in both."""
    first, faster_by_noise, faster = sized(1.0, 1000), sized(0.99, 2000), sized(0.9, 2000)
    assert best_measured([faster_by_noise, first], "latency_ms") is first
    assert best_measured([first, faster, faster_by_noise], "latency_ms") is faster
    rng = np.random.default_rng(0)
    for _ in range(200):
        known = [sized(*pair) for pair in rng.uniform((1.0, 1000), (1.1, 1010), (8, 2)).round(2)]
        best = best_measured(known, "latency_ms").metrics
        least = min(e.metrics["latency_ms"] for e in known)
        assert best["latency_ms"] <= AS_FAST * least
        for other in (e.metrics for e in known):
            both = other["latency_ms"] < best["latency_ms"]
            assert not (both and other["size_bytes"] < best["size_bytes"])
