"""Latency of a candidate: what measures it, and the one that does so on this machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from hardware.latency import METHOD, Latency, Rounds, run_times
from hardware.run_watch import RunWatch
from hardware.session import Arrays, open_session
from hardware.target import Target
from nas.evaluation.built_candidate import BuiltCandidate
from nas.evaluation.candidate import Candidate
from nas.evaluation.candidate_builder import CandidateBuilder
from nas.evaluation.latency_cache import LatencyCache

LATENCY_REPEATS = 30


class MeasuredLatency(NamedTuple):
    """A latency, and the device it was measured on."""

    latency: Latency
    device: Mapping[str, Any]


class LatencyMeter(Protocol):
    """Measures the latency of models, on this machine or on another device."""

    def begin(self, built: BuiltCandidate) -> Callable[[], MeasuredLatency]:
        """Start to measure a candidate; the outcome is waited for when it is called for.

        The latency is relative to the baseline's, with which the candidate is run alternately, in
        the baseline's milliseconds: their ratio is what a busy machine leaves alone, the more so
        the less they differ.
        """

    def alternate(
        self, models: Mapping[str, Path], inputs: Mapping[str, Arrays], repeats: int
    ) -> Rounds:
        """Runs of written models in turn, `repeats` of each."""


@dataclass(frozen=True)
class LocalLatency:
    """Latency on this machine; what was measured once is remembered."""

    builder: CandidateBuilder
    baseline: Candidate
    cache: LatencyCache
    watch: RunWatch | None = None

    def begin(self, built: BuiltCandidate) -> Callable[[], MeasuredLatency]:
        """See `LatencyMeter`. Nothing is measured before the outcome is called for."""
        return lambda: MeasuredLatency(self._latency(built), built.target.describe())

    def alternate(
        self, models: Mapping[str, Path], inputs: Mapping[str, Arrays], repeats: int
    ) -> Rounds:
        """See `LatencyMeter`."""
        target = self.builder.target
        sessions = {name: open_session(path, target) for name, path in models.items()}
        return run_times(sessions, inputs, repeats=repeats, watch=self.watch)

    def _latency(self, built: BuiltCandidate) -> Latency:
        conditions = _conditions(built, built.target)
        if built.candidate == self.baseline:
            return self.cache.get(conditions, lambda: self._run(built).latency(built.key))
        baseline_latency = self._latency(self._built_baseline)

        def alternately() -> Latency:
            rounds = self._run(built, self._built_baseline)
            return rounds.relative(built.key, self.baseline.key, baseline_latency)

        return self.cache.get(conditions, alternately)

    def _run(self, *models: BuiltCandidate) -> Rounds:
        sessions = {built.key: built.session for built in models}
        inputs = {built.key: built.example for built in models}
        return run_times(sessions, inputs, repeats=LATENCY_REPEATS, watch=self.watch)

    @cached_property
    def _built_baseline(self) -> BuiltCandidate:
        return self.builder.build(self.baseline)


def _conditions(built: BuiltCandidate, target: Target) -> dict[str, Any]:
    """Everything a latency depends on."""
    return {
        "graph": built.graph_digest,
        "inputs": {name: list(array.shape) for name, array in built.example.items()},
        "target": target.describe(),
        "repeats": LATENCY_REPEATS,
        "method": METHOD,
    }
