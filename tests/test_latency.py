from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from hardware.latency import Latency, calm, latencies, ratio, run_times


class Recorder:
    """A session that notes who ran."""

    def __init__(self, name: str, log: list[str]) -> None:
        self.name, self.log = name, log

    def run(self, outputs: None, feeds: dict[str, object]) -> list[object]:
        self.log.append(self.name)
        return []


class SharedCore:
    """A core that two processes have in turn, 3 ms each, with a clock that shows the time.

    Who sleeps leaves the rest of the turn to the other one and gets a whole turn on waking up.
    """

    TURN_S = 0.003

    def __init__(self) -> None:
        self.now, self.left = 0.0, self.TURN_S

    def compute(self, seconds: float) -> None:
        while seconds > self.left + 1e-9:
            seconds -= self.left
            self.now += self.left + self.TURN_S
            self.left = self.TURN_S
        self.now += seconds
        self.left -= seconds

    def sleep(self, seconds: float) -> None:
        self.now += max(seconds, self.TURN_S)
        self.left = self.TURN_S


class Model:
    """A session that computes for a while on a shared core."""

    def __init__(self, core: SharedCore, seconds: float) -> None:
        self.core, self.seconds = core, seconds

    def run(self, outputs: None, feeds: dict[str, object]) -> list[object]:
        self.core.compute(self.seconds)
        return []


def ticks() -> Iterator[float]:
    now = 0.0
    while True:
        yield now
        now += 0.5


def test_sessions_run_alternately_after_warming_up() -> None:
    log: list[str] = []
    sessions = {name: Recorder(name, log) for name in "ab"}
    clock = ticks()
    times = run_times(sessions, {"a": {}, "b": {}}, repeats=3, warmup=2, clock=lambda: next(clock))
    assert log == ["a", "a", "b", "b"] + ["a", "b"] * 3
    assert np.array_equal(times["a"], [0.5, 0.5, 0.5])


def measured_on_a_shared_core(*, pauses: bool) -> float:
    """Latency of a model of 0.5 ms over that of one of 2.5 ms."""
    core = SharedCore()
    models = {"slow": Model(core, 0.0025), "fast": Model(core, 0.0005)}
    times = run_times(
        models,
        {"slow": {}, "fast": {}},
        repeats=30,
        clock=lambda: core.now,
        pause=core.sleep if pauses else lambda _: None,
    )
    found = latencies(times)
    return found["fast"].median_ms / found["slow"].median_ms


def test_rounds_do_not_fall_into_step_with_the_scheduler() -> None:
    """Without pauses the slow model is interrupted in every round and seems over twice as slow."""
    assert measured_on_a_shared_core(pauses=False) == pytest.approx(0.2 / 2.2)
    assert measured_on_a_shared_core(pauses=True) == pytest.approx(0.2)


def test_latency_is_median_and_quartiles_in_milliseconds() -> None:
    assert Latency.of(np.array([0.001, 0.002, 0.003, 0.004, 0.1])) == Latency(3.0, 2.0, 4.0, 5)


def test_ratio_recovers_a_known_factor_under_common_disturbance() -> None:
    rng = np.random.default_rng(0)
    disturbance = rng.lognormal(0, 0.5, 200)
    reference = 0.010 * disturbance * rng.normal(1, 0.01, 200)
    found = ratio(0.8 * reference, reference, rng)
    assert found.value == pytest.approx(0.8)
    assert found.low <= 0.8 <= found.high
    assert found.verdict == "faster"


def test_interruptions_leave_a_ratio_alone() -> None:
    """A core shared with other work: runs are interrupted the likelier the longer they are."""
    rng = np.random.default_rng(0)
    lengths = np.array([[0.002], [0.0005]])
    interrupted = rng.random((2, 90)) < 1 - np.exp(-lengths / 0.0022)
    slow, fast = lengths * rng.normal(1, 0.02, (2, 90)) + np.where(interrupted, 0.003, 0)
    assert np.median(fast) / np.median(slow) < 0.15
    found = ratio(fast, slow, rng)
    assert found.value == pytest.approx(0.25, rel=0.05)


def test_calm_rounds_are_the_same_of_all_models_and_stay_in_order() -> None:
    a, b = np.array([1.0, 9, 1, 2, 1, 1]), np.array([20.0, 20, 70, 21, 22, 20])
    assert [rows.tolist() for rows in calm(a, b)] == [[1.0, 1.0], [20.0, 20.0]]
    assert calm(a)[0].tolist() == [1.0, 1.0]


def test_models_that_cannot_be_told_apart_are_not_ranked() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(0.01, 0.001, (2, 30))
    assert ratio(a, b, rng).verdict == "undecided"
