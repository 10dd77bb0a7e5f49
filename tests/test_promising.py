"""Which candidate to polish next: against the formula, and against the fastest of certain ones."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest

from nas.delivery.best import best_measured, most_promising
from nas.evaluation.record import Evaluation
from nas.experiment.objectives import Cost
from tests.test_disturbed import evaluation

LOW_MS = 4.0


def found(latencies: list[float], disturbed: tuple[int, ...] = ()) -> list[Evaluation]:
    """Candidates of size 10, 9, ... thousand bytes."""
    rows = enumerate(latencies)
    return [evaluation(10 - n, 0.9, ms, disturbed=n in disturbed) for n, ms in rows]


@pytest.mark.parametrize("cost", ["latency_ms", "size_bytes"])
def test_the_largest_expected_saving_is_chosen(cost: Cost) -> None:
    """Its logarithm times the chance to be good enough, of random candidates."""
    rng, chosen = np.random.default_rng(0), set()
    for _ in range(200):
        known = found(rng.uniform(1.0, 5.0, 6).tolist())
        margins, errors = rng.uniform(0, 0.01, 6).tolist(), rng.uniform(0.001, 0.02, 6).tolist()
        doubts = {e.candidate.key: error for e, error in zip(known, errors, strict=True)}
        least = LOW_MS if cost == "latency_ms" else 8500.0
        savings = [
            NormalDist(0, error).cdf(margin) * math.log(least / e.metrics[cost])
            for e, margin, error in zip(known, margins, errors, strict=True)
        ]
        best = most_promising(known, margins, doubts, cost, least)
        if max(savings) <= 0:
            assert best is None
            continue
        assert best is not None
        place = known.index(best)
        assert savings[place] >= max(savings) - (math.log(1.03) if cost == "latency_ms" else 0.0)
        chosen.add(place)
    assert len(chosen) > 1


def test_of_certain_ones_the_fastest_is_chosen() -> None:
    """As it is delivered: the smallest of those as fast, disturbed ones last."""
    rng = np.random.default_rng(1)
    for _ in range(200):
        disturbed = tuple(np.flatnonzero(rng.random(6) < 0.4).tolist())
        known = found(rng.uniform(1.0, 1.2, 6).tolist(), disturbed)
        best = most_promising(known, [0.0] * 6, {}, "latency_ms", LOW_MS)
        assert best is best_measured(known, "latency_ms")


def test_far_faster_and_uncertain_stands_against_little_faster_and_certain() -> None:
    safe, bold = found([3.0, 2.0])
    doubts = {bold.candidate.key: 0.01}
    given = [safe, bold], [0.005, 0.0]
    assert most_promising(*given, doubts, "latency_ms", LOW_MS) is bold
    assert most_promising(*given, doubts, "latency_ms", 3.0) is bold
    assert most_promising([safe, bold], [0.005, -0.02], doubts, "latency_ms", LOW_MS) is safe
    assert most_promising(*given, doubts, "latency_ms", 2.0) is None
    assert most_promising([], [], {}, "latency_ms", LOW_MS) is None
