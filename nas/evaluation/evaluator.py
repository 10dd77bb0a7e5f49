"""One candidate, built once and measured for every objective."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from nas.evaluation.candidate import Candidate
from nas.evaluation.candidate_builder import CandidateBuilder
from nas.evaluation.latency_meter import LatencyMeter
from nas.evaluation.record import Details, Measured
from nas.evaluation.score_meter import ScoreMeter, scores
from supernets.metrics.metric import Quality


@dataclass(frozen=True)
class Evaluator:
    """Measures candidates of one run, their answers by these metrics.

    known: key -> scores of candidates whose answers are not asked for again.
    """

    builder: CandidateBuilder
    meter: ScoreMeter
    latency: LatencyMeter
    metrics: Sequence[Quality]
    known: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    clock: Callable[[], float] = time.perf_counter

    def __call__(self, candidate: Candidate) -> Measured:
        """Everything that is measured of a candidate. Raises EvaluationError without any."""
        started = self.clock()
        built = self.builder.build(candidate)
        outcome = self.latency.begin(built)  # another device measures while this one goes on
        found = self.known.get(candidate.key)
        if found is None:
            found = scores(self.meter.predictions(built), self.metrics)
        latency, device = outcome()
        metrics = {
            **found,
            "latency_ms": latency.median_ms,
            **self.builder.costs(candidate, float(len(built.content))),
        }
        return Measured(metrics, Details(latency, built.coverage, device, self.clock() - started))
