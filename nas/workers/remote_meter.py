"""The latency meter whose measurements are made on another device."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from hardware.latency import Latency, Rounds
from hardware.session import Arrays
from nas.evaluation.built_candidate import BuiltCandidate
from nas.evaluation.candidate import Candidate
from nas.evaluation.candidate_builder import CandidateBuilder
from nas.evaluation.latency_meter import LATENCY_REPEATS, MeasuredLatency
from nas.workers.remote_latency import LatencyQueue


@dataclass(frozen=True)
class RemoteLatency:
    """Latency as `simqnas worker --measure latency` measures it on the target device."""

    builder: CandidateBuilder
    baseline: Candidate
    queue: LatencyQueue

    def begin(self, built: BuiltCandidate) -> Callable[[], MeasuredLatency]:
        """Send a candidate and the baseline to be measured alternately; see `LatencyMeter`."""
        self._ask(built)
        return lambda: self._outcome(built.candidate)

    def alternate(
        self, models: Mapping[str, Path], inputs: Mapping[str, Arrays], repeats: int
    ) -> Rounds:
        """See `LatencyMeter`."""
        contents = {name: path.read_bytes() for name, path in models.items()}
        key = "front of " + ", ".join(sorted(contents))
        self.queue.submit(key, contents, inputs, self.builder.target, repeats)
        return self.queue.rounds(key)[0]

    def _ask(self, built: BuiltCandidate) -> None:
        models = {built.key: built}
        if built.candidate != self.baseline:
            self._ask(self._built_baseline)
            models[self.baseline.key] = self._built_baseline
        contents = {key: model.content for key, model in models.items()}
        inputs = {key: model.example for key, model in models.items()}
        self.queue.submit(built.key, contents, inputs, built.target, LATENCY_REPEATS)

    def _outcome(self, candidate: Candidate) -> MeasuredLatency:
        latency = self._latency(candidate)
        device = dict(self.queue.rounds(candidate.key)[1])
        if candidate != self.baseline:
            self.queue.clear(candidate.key, candidate.key)
        return MeasuredLatency(latency, device)

    def _latency(self, candidate: Candidate) -> Latency:
        rounds = self.queue.rounds(candidate.key)[0]
        if candidate == self.baseline:
            return rounds.latency(candidate.key)
        return rounds.relative(candidate.key, self.baseline.key, self._latency(self.baseline))

    @cached_property
    def _built_baseline(self) -> BuiltCandidate:
        return self.builder.build(self.baseline)
