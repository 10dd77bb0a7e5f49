"""One candidate, built once and measured for every objective."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from nas.evaluation.accuracy_meter import AccuracyMeter
from nas.evaluation.candidate import Candidate
from nas.evaluation.candidate_builder import CandidateBuilder
from nas.evaluation.latency_meter import LatencyMeter
from nas.evaluation.record import Details, Measured


@dataclass(frozen=True)
class Evaluator:
    """Measures candidates of one run."""

    builder: CandidateBuilder
    accuracy: AccuracyMeter
    latency: LatencyMeter
    clock: Callable[[], float] = time.perf_counter

    def __call__(self, candidate: Candidate) -> Measured:
        """Everything that is measured of a candidate. Raises EvaluationError without any."""
        started = self.clock()
        built = self.builder.build(candidate)
        outcome = self.latency.begin(built)  # another device measures while this one goes on
        accuracy = self.accuracy.accuracy(built)
        latency, device = outcome()
        metrics = {
            "accuracy": accuracy,
            "latency_ms": latency.median_ms,
            "size_bytes": float(len(built.content)),
            **self.builder.costs(candidate),
        }
        return Measured(metrics, Details(latency, built.coverage, device, self.clock() - started))
