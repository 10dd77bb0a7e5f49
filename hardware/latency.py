"""Latency of models run in turn: only runs that nothing interrupted count, or the figure is marked.

On a busy machine the slower of two models is interrupted more often, and a median over all runs
says more about the machine than about the models. Every run is therefore timed on the thread's
own processor clock beside the wall clock, and involuntary context switches are counted: a run
counts where none happened and the two clocks agree. Where too few are left more rounds follow for
a stated time, and then the figures are marked as disturbed. Short models run more often, since a
single run of theirs scatters more.

Every run begins with a fresh share of the processor, as the process sleeps first: where runs
follow each other without a pause, rounds about as long as the scheduler's share fall into step
with it. Whoever ran meanwhile leaves cold caches behind, so that an untimed run comes first.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Self

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from hardware.run_watch import RunWatch
from hardware.session import CANNOT_RUN, Arrays, one_line_errors

Seconds = NDArray[np.float64]
Flags = NDArray[np.bool_]

PAUSE_S = 1e-4
"""Sleep before a run: whoever was waiting for the processor has it then, not within the run."""
COUNTED = 2 / 3
"""Part of the rounds that has to be uninterrupted, and that counts: the calmest."""
FEW, CALMEST_OF_MANY = 100, 1 / 5
"""Rounds that a figure comes from where that part is larger, or this part of them if it is more.

Beside six other processes, whose data push theirs out of the caches, ratios of a model of 0.3 ms
lie 5 % off by the calmest two thirds of 750 rounds, 3 % by the calmest fifth.
"""
TIMED_S, MOST = 0.5, 50
"""Timed seconds that all rounds together come to at least, within so many times the rounds asked.

Ratios of a model of 0.3 ms to one of 0.1 ms scatter by 10 % over 15 rounds, by 3 % over 150, by 1 %
over 750.
"""
PATIENCE_S = 1 / 3
"""Time spent, for every round asked for, on further ones where too many were disturbed."""
WAIT_S = 0.05
"""Sleep before each further round: what disturbs may be over soon."""
METHOD = "uninterrupted runs, each behind an untimed one, more of short models"
"""How latencies are taken, where they are remembered: those taken in another way are not reused."""
DISTURBED = "disturbed"
"""The mark of a figure that other work had a part in."""
DISTURBED_NOTE = (
    "disturbed: other work interrupted too many of the runs to rely on these figures; "
    "measure again once the machine is idle"
)


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one inference: median, quartiles, and how many runs they come from.

    disturbed: other work interrupted too many runs; the figure is not to rank by.
    """

    median_ms: float
    q1_ms: float
    q3_ms: float
    repeats: int
    disturbed: bool = False

    @property
    def quartiles_ms(self) -> tuple[float, float, float]:
        """Median, first quartile, third quartile."""
        return self.median_ms, self.q1_ms, self.q3_ms

    @classmethod
    def of(cls, seconds: Seconds, disturbed: bool = False) -> Latency:
        """Summarise `(repeats,)` run times."""
        q1, median, q3 = np.quantile(seconds * 1e3, [0.25, 0.5, 0.75])
        return cls(float(median), float(q1), float(q3), len(seconds), disturbed)


class Ratio(NamedTuple):
    """Latency of a model divided by a reference's, with a 95 % bootstrap interval."""

    value: float
    low: float
    high: float
    disturbed: bool = False

    @property
    def verdict(self) -> str:
        """`faster`, `slower`, `disturbed`, or `undecided` when the interval holds 1."""
        if self.disturbed:
            return DISTURBED
        if self.high < 1:
            return "faster"
        return "slower" if self.low > 1 else "undecided"


@dataclass(frozen=True)
class Rounds:
    """Runs of models in turn; entry r of all models, `(n_rounds,)`, comes from the same round.

    seconds: wall clock; of interrupted runs the processor time, where that is known.
    interrupted: whether other work had the processor, or a part of it, during a run.
    counted: how many rounds have to be uninterrupted.
    """

    seconds: Mapping[str, Seconds]
    interrupted: Mapping[str, Flags]
    counted: int

    @property
    def used(self) -> int:
        """How many rounds, of those that count, a figure comes from."""
        rounds = len(next(iter(self.seconds.values())))
        return min(self.counted, max(FEW, math.ceil(rounds * CALMEST_OF_MANY)))

    def latency(self, name: str) -> Latency:
        """Latency of a model by its own calm rounds."""
        (seconds,), disturbed = self._calm([name])
        return Latency.of(seconds, disturbed)

    def relative(self, name: str, reference: str, known: Latency) -> Latency:
        """Latency of a model where the reference's is `known`: by rounds calm for both."""
        (ours, theirs), disturbed = self._calm([name, reference])
        factor = known.median_ms / (float(np.median(theirs)) * 1e3)
        return Latency.of(ours * factor, disturbed or known.disturbed)

    def ratio(
        self, name: str, reference: str, rng: np.random.Generator, draws: int = 1000
    ) -> Ratio:
        """Ratio of medians over the rounds that were calm for both.

        Whole rounds are resampled, so that what disturbed both cancels, and the calm ones chosen
        anew in every sample: choosing is part of how the ratio is taken, so of its uncertainty.
        """
        times, disturbed = self._usable([name, reference])
        n = times.shape[1]
        samples = times[:, rng.integers(0, n, size=(draws, n))]
        medians = np.median(_calmest(samples, self.used), axis=-1)
        low, high = np.quantile(medians[0] / medians[1], [0.025, 0.975])
        ours, theirs = np.median(_calmest(times, self.used), axis=-1)
        return Ratio(float(ours / theirs), float(low), float(high), disturbed)

    def _calm(self, names: Sequence[str]) -> tuple[Sequence[Seconds], bool]:
        times, disturbed = self._usable(names)
        return list(_calmest(times, self.used)), disturbed

    def _usable(self, names: Sequence[str]) -> tuple[Seconds, bool]:
        """Times `(n_models, n_rounds)` of rounds in which none of the models was interrupted.

        Of all rounds, and True, where those are too few.
        """
        interrupted = np.any([self.interrupted[name] for name in names], axis=0)
        disturbed = bool((~interrupted).sum() < self.counted)
        rounds = np.full_like(interrupted, True) if disturbed else ~interrupted
        return np.stack([self.seconds[name] for name in names])[:, rounds], disturbed

    def to_json(self) -> dict[str, Any]:
        """Plain values, read back by `from_json`."""
        return {
            "seconds": {name: times.tolist() for name, times in self.seconds.items()},
            "interrupted": {name: flags.tolist() for name, flags in self.interrupted.items()},
            "counted": self.counted,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Inverse of `to_json`."""
        seconds = {name: np.array(times) for name, times in data["seconds"].items()}
        interrupted = {name: np.array(flags) for name, flags in data["interrupted"].items()}
        return cls(seconds, interrupted, data["counted"])


def _calmest(times: Seconds, count: int) -> Seconds:
    """The `count` rounds of `(n_models, ..., n_rounds)` with the least times, in their order.

    A round is judged by the sum of all models' times, each over its own shortest.
    """
    disturbance = (times / times.min(axis=-1, keepdims=True)).sum(axis=0)
    kept = np.sort(np.argsort(disturbance, axis=-1, kind="stable")[..., :count], axis=-1)
    return np.take_along_axis(times, kept[np.newaxis], axis=-1)


def run_times(
    sessions: Mapping[str, onnxruntime.InferenceSession],
    inputs: Mapping[str, Arrays],
    *,
    repeats: int,
    warmup: int = 3,
    watch: RunWatch | None = None,
) -> Rounds:
    """Run every session in turn, `repeats` times or more, every second run timed.

    Two thirds of the timed rounds have to count. Where of some two models fewer were left
    uninterrupted, further rounds follow for up to `PATIENCE_S` per round asked for.
    """
    runs = {
        name: partial(session.run, None, dict(inputs[name])) for name, session in sessions.items()
    }
    watching = RunWatch.of(sessions.values()) if watch is None else nullcontext(watch)
    with watching as watch:
        return time_in_turn(runs, repeats, watch, warmup)


def time_in_turn(
    runs: Mapping[str, Callable[[], object]], repeats: int, watch: RunWatch, warmup: int = 3
) -> Rounds:
    """The same of anything that runs models. watch: of the threads that run them."""
    asked = math.ceil(repeats / 2)
    with _no_garbage_collection(), one_line_errors(CANNOT_RUN):
        for run in runs.values():
            for _ in range(warmup):
                run()
        rounds = [_round(runs.values(), watch) for _ in range(asked)]
        timed = sum(seconds for row in rounds for seconds, _ in row)
        often = math.ceil(asked * TIMED_S / max(timed, TIMED_S / MOST))
        rounds += [_round(runs.values(), watch) for _ in range(often - asked)]
        counted = math.ceil(len(rounds) * COUNTED)
        deadline = watch.wall() + PATIENCE_S * asked
        while not _enough(rounds, counted) and watch.wall() < deadline:
            watch.sleep(WAIT_S)
            rounds.append(_round(runs.values(), watch))
    seconds, interrupted = np.array(rounds).transpose(2, 1, 0)  # (n_models, n_rounds) each
    return Rounds(
        dict(zip(runs, seconds, strict=True)),
        dict(zip(runs, interrupted > 0, strict=True)),
        counted,
    )


def _round(runs: Iterable[Callable[[], object]], watch: RunWatch) -> list[tuple[float, bool]]:
    """Run every model once; seconds, and whether it was interrupted."""
    seen = []
    for run in runs:
        watch.sleep(PAUSE_S)
        run()
        seen.append(watch.time(run))
    return seen


def _enough(rounds: Sequence[Sequence[tuple[float, bool]]], counted: int) -> bool:
    """Whether any two models have `counted` rounds that interrupted neither."""
    calm = np.array([[not interrupted for _, interrupted in row] for row in rounds], int)
    return bool((calm.T @ calm).min() >= counted)


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def measure(
    sessions: Mapping[str, onnxruntime.InferenceSession],
    inputs: Mapping[str, Arrays],
    *,
    repeats: int,
    watch: RunWatch | None = None,
) -> dict[str, Latency]:
    """Latency of every session, measured in turn."""
    rounds = run_times(sessions, inputs, repeats=repeats, watch=watch)
    return {name: rounds.latency(name) for name in sessions}
