"""Latency of models measured alternately, with spread, and compared only where it allows.

On a busy machine the slower of two models is interrupted more often, so that a ratio of medians
over all rounds is off by up to two times either way. Latencies and ratios are therefore those of
the calm rounds. And every run begins with a fresh share of the processor: where runs follow each
other without a pause, rounds about as long as the scheduler's share fall into step with it, and
one of the models is interrupted in all of them.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from hardware.session import Arrays

Seconds = NDArray[np.float64]

CALM_PART = 1 / 3
"""Part of the rounds that count."""
PAUSE_S = 1e-4
"""Sleep before a run: whoever was waiting for the processor has it then, not within the run."""
METHOD = "calm rounds, a pause before every run"
"""How latencies are taken, where they are remembered: those taken in another way are not reused."""


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one inference: median, quartiles, and how many runs they come from.

    Of all runs given; `calm` tells which of them to give.
    """

    median_ms: float
    q1_ms: float
    q3_ms: float
    repeats: int

    @classmethod
    def of(cls, seconds: Seconds) -> Latency:
        """Summarise `(repeats,)` run times."""
        q1, median, q3 = np.quantile(seconds * 1e3, [0.25, 0.5, 0.75])
        return cls(float(median), float(q1), float(q3), len(seconds))


class Ratio(NamedTuple):
    """Latency of a model divided by a reference's, with a 95 % bootstrap interval."""

    value: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """`faster`, `slower`, or `undecided` when the interval holds 1: no ranking then."""
        if self.high < 1:
            return "faster"
        return "slower" if self.low > 1 else "undecided"


def run_times(
    sessions: Mapping[str, onnxruntime.InferenceSession],
    inputs: Mapping[str, Arrays],
    *,
    repeats: int,
    warmup: int = 3,
    clock: Callable[[], float] = time.perf_counter,
    pause: Callable[[float], None] = time.sleep,
) -> dict[str, Seconds]:
    """Run every session in turn, `repeats` rounds: a disturbance hits all of them alike.

    `pause` sleeps before every run, for `PAUSE_S` seconds. Returns seconds per name,
    `(repeats,)`; entry r of all names comes from the same round.
    """
    feeds = {name: dict(inputs[name]) for name in sessions}
    for name, session in sessions.items():
        for _ in range(warmup):
            session.run(None, feeds[name])
    seconds = {name: np.empty(repeats) for name in sessions}
    collecting = gc.isenabled()
    gc.disable()
    try:
        for turn in range(repeats):
            for name, session in sessions.items():
                pause(PAUSE_S)
                start = clock()
                session.run(None, feeds[name])
                seconds[name][turn] = clock() - start
    finally:
        if collecting:
            gc.enable()
    return seconds


def calm(*seconds: Seconds) -> list[Seconds]:
    """The third of the rounds that other work disturbed least, in their order, of every model.

    A round counts by the sum of all models' times `(repeats,)`, each over its own shortest.
    """
    times = np.stack(seconds)
    disturbance = (times / times.min(axis=1, keepdims=True)).sum(axis=0)
    kept = math.ceil(CALM_PART * len(disturbance))
    return list(times[:, np.sort(np.argsort(disturbance, kind="stable")[:kept])])


def latencies(seconds: Mapping[str, Seconds]) -> dict[str, Latency]:
    """Latency of every model by name, in the rounds `(repeats,)` that were calm for all."""
    return dict(zip(seconds, map(Latency.of, calm(*seconds.values())), strict=True))


def measure(
    sessions: Mapping[str, onnxruntime.InferenceSession],
    inputs: Mapping[str, Arrays],
    *,
    repeats: int,
    warmup: int = 3,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Latency]:
    """Latency of every session, measured alternately, in the rounds that were calm for all."""
    return latencies(run_times(sessions, inputs, repeats=repeats, warmup=warmup, clock=clock))


def ratio(model: Seconds, reference: Seconds, rng: np.random.Generator, draws: int = 1000) -> Ratio:
    """Ratio of medians over the rounds that were calm for both.

    Whole rounds are resampled, so that what disturbed both cancels.
    """
    assert len(model) == len(reference), "both come from the same rounds"
    model, reference = calm(model, reference)
    rounds = rng.integers(0, len(model), size=(draws, len(model)))
    ratios = np.median(model[rounds], axis=1) / np.median(reference[rounds], axis=1)
    low, high = np.quantile(ratios, [0.025, 0.975])
    return Ratio(float(np.median(model) / np.median(reference)), float(low), float(high))
