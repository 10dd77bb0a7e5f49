"""Latency: only uninterrupted runs count, and ratios are as sure as their intervals say."""

from __future__ import annotations

import itertools
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnxruntime
import pytest

from hardware.latency import (
    PATIENCE_S,
    TIMED_S,
    Latency,
    Rounds,
    run_times,
)
from hardware.run_watch import RunWatch


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for calm rounds, and time short models, as long as a user does."""
    monkeypatch.setattr("hardware.latency.PATIENCE_S", PATIENCE_S)
    monkeypatch.setattr("hardware.latency.TIMED_S", TIMED_S)


class Recorder:
    """A session that notes who ran."""

    def __init__(self, name: str, log: list[str]) -> None:
        self.name, self.log = name, log

    def run(self, outputs: None, feeds: dict[str, object]) -> list[object]:
        self.log.append(self.name)
        return []


class SharedCore:
    """A core that two processes have in turn, with clocks and a count of switches.

    Who sleeps leaves the rest of the turn to the other one and gets a new one on waking up. Every
    turn of the other one leaves cold caches behind.
    """

    TURN_S, COLD_S = 0.003, 1e-4

    def __init__(self, alone_from: float = math.inf) -> None:
        self.now, self.computed, self.switches, self.left = 0.0, 0.0, 0, self.TURN_S
        self.alone_from = alone_from
        self.turns = itertools.cycle([self.TURN_S, self.TURN_S, 0.002])

    def compute(self, seconds: float) -> None:
        self.computed += seconds
        while seconds > self.left + 1e-9 and self.now < self.alone_from:
            seconds -= self.left
            self.now += self.left + self.TURN_S
            self.switches += 1
            self.left = self.TURN_S
            seconds += self.COLD_S
            self.computed += self.COLD_S
        self.now += seconds
        self.left -= seconds

    def sleep(self, seconds: float) -> None:
        self.now += max(seconds, self.TURN_S)
        self.left = next(self.turns)

    def measure(self, repeats: int, **lengths: float) -> Rounds:
        """Runs of models that compute so many seconds."""
        watch = RunWatch(
            wall=lambda: self.now,
            processor=lambda: self.computed,
            switches=lambda: self.switches,
            sleep=self.sleep,
        )
        models: dict[str, Any] = {name: Model(self, length) for name, length in lengths.items()}
        return run_times(models, {name: {} for name in models}, repeats=repeats, watch=watch)


class Model:
    """A session that computes for a while on a shared core."""

    def __init__(self, core: SharedCore, seconds: float) -> None:
        self.core, self.seconds = core, seconds

    def run(self, outputs: None, feeds: dict[str, object]) -> list[object]:
        self.core.compute(self.seconds)
        return []


def rounds_of(a: Any, b: Any, counted: int) -> Rounds:
    """Rounds of two models, none interrupted."""
    calm = np.zeros(len(a), bool)
    return Rounds({"a": np.array(a), "b": np.array(b)}, {"a": calm, "b": calm}, counted)


def test_every_second_run_of_each_model_is_timed_in_turn() -> None:
    log: list[str] = []
    sessions: dict[str, Any] = {name: Recorder(name, log) for name in "ab"}
    now = iter(np.arange(100) * 0.5)
    watch = RunWatch(lambda: next(now), None, lambda: 0, sleep=lambda _: log.append("sleep"))
    rounds = run_times(sessions, {"a": {}, "b": {}}, repeats=3, warmup=2, watch=watch)
    turn = ["sleep", "a", "a", "sleep", "b", "b"]
    assert log == ["a", "a", "b", "b"] + turn * 2
    assert rounds.seconds["a"].tolist() == [0.5, 0.5]
    assert rounds.counted == 2


def test_a_ratio_comes_from_rounds_that_interrupted_neither_model() -> None:
    """Two runs of the slow model fit into two turns of three."""
    rounds = SharedCore().measure(30, slow=0.0014, fast=0.0005)
    assert 0 < rounds.interrupted["slow"].sum() < len(rounds.seconds["slow"])
    found = rounds.ratio("fast", "slow", np.random.default_rng(0))
    assert [found.low, found.value, found.high] == pytest.approx([5 / 14] * 3)
    assert not found.disturbed
    assert rounds.latency("slow").median_ms == pytest.approx(1.4)
    assert rounds.latency("slow").repeats == rounds.used < rounds.counted


@pytest.mark.parametrize(
    ("milliseconds", "expected", "counted", "used"),
    [(40, 15, 10, 10), (20, 25, 17, 17), (2, 250, 167, 100), (0.01, 750, 500, 150)],
)
def test_short_models_run_until_they_were_timed_long_enough(
    milliseconds: float, expected: int, counted: int, used: int
) -> None:
    """Two thirds have to be uninterrupted; of many the calmest fifth, at least 100, is used."""
    rounds = SharedCore(alone_from=0).measure(30, model=milliseconds / 1000)
    assert len(rounds.seconds["model"]) == expected
    assert (rounds.counted, rounds.used) == (counted, used)
    assert rounds.latency("model").repeats == used


def test_a_model_longer_than_a_turn_is_marked_and_its_processor_time_told() -> None:
    rounds = SharedCore().measure(30, slow=0.030, fast=0.0005)
    assert rounds.latency("slow").disturbed
    assert rounds.latency("slow").median_ms == pytest.approx(30.0, rel=0.05)
    assert not rounds.latency("fast").disturbed
    found = rounds.ratio("fast", "slow", np.random.default_rng(0))
    assert found.disturbed
    assert found.verdict == "disturbed"
    assert found.value == pytest.approx(1 / 60, rel=0.05)
    known = Latency(7.0, 7.0, 7.0, 10)
    assert rounds.relative("fast", "slow", known).disturbed


def test_other_work_that_ends_soon_is_waited_for() -> None:
    rounds = SharedCore(alone_from=3.0).measure(30, slow=0.030, fast=0.0005)
    assert not rounds.latency("slow").disturbed
    assert rounds.interrupted["slow"].sum() >= 15
    assert (~rounds.interrupted["slow"]).sum() == rounds.counted


def test_other_work_that_does_not_end_is_waited_for_as_long_as_stated() -> None:
    core = SharedCore()
    core.measure(30, slow=0.030)
    planned = 15 * 2 * 0.060
    assert core.now == pytest.approx(planned + PATIENCE_S * 15, rel=0.1)


def test_latency_is_median_and_quartiles_in_milliseconds() -> None:
    assert Latency.of(np.array([0.001, 0.002, 0.003, 0.004, 0.1])) == Latency(3.0, 2.0, 4.0, 5)


def test_calm_rounds_are_the_same_of_both_models() -> None:
    a, b = [1.0, 9, 1, 2, 1, 1], [20.0, 20, 70, 21, 22, 20]
    rounds = rounds_of(a, b, 2)
    assert rounds.relative("a", "b", Latency(20.0, 20.0, 20.0, 2)).median_ms == pytest.approx(1.0)
    assert rounds.latency("a").median_ms == 1000
    assert rounds.ratio("a", "b", np.random.default_rng(0)).value == pytest.approx(1 / 20)


def test_ratio_recovers_a_known_factor_under_common_disturbance() -> None:
    rng = np.random.default_rng(0)
    disturbance = rng.lognormal(0, 0.5, 200)
    reference = 0.010 * disturbance * rng.normal(1, 0.01, 200)
    found = rounds_of(0.8 * reference, reference, 67).ratio("a", "b", rng)
    assert found.value == pytest.approx(0.8)
    assert found.low <= 0.8 <= found.high
    assert found.verdict == "faster"


@pytest.mark.parametrize("spread", [0.01, 0.2])
def test_intervals_hold_the_true_ratio_as_often_as_they_say(spread: float) -> None:
    """15 rounds of which 10 count; the bootstrap of so few comes within 5 % of the 95 asked."""
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(300):
        a, b = np.exp(rng.normal(0, spread, (2, 15)))
        found = rounds_of(0.5 * a, b, 10).ratio("a", "b", rng, draws=300)
        held += found.low <= 0.5 <= found.high
    assert held / 300 >= 0.90


def test_models_that_cannot_be_told_apart_are_not_ranked() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(0.01, 0.001, (2, 30))
    assert rounds_of(a, b, 20).ratio("a", "b", rng).verdict == "undecided"


def test_rounds_travel_as_json() -> None:
    rounds = SharedCore().measure(6, slow=0.030, fast=0.0005)
    read = Rounds.from_json(json.loads(json.dumps(rounds.to_json())))
    assert read.latency("slow") == rounds.latency("slow")
    assert read.latency("fast") == rounds.latency("fast")
    assert read.counted == rounds.counted > 0


class Threads:
    """A session of so many threads, as far as a watch asks."""

    def __init__(self, threads: int) -> None:
        self.threads = threads

    def get_session_options(self) -> onnxruntime.SessionOptions:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        return options

    def get_providers(self) -> list[str]:
        return ["CPUExecutionProvider"]


@pytest.fixture
def one_processor() -> Iterator[int]:
    """Keep this thread on one processor; its number."""
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("this system does not bind threads to processors")
    allowed = os.sched_getaffinity(0)
    processor = min(allowed)
    os.sched_setaffinity(0, {processor})
    yield processor
    os.sched_setaffinity(0, allowed)


def compute(seconds: float) -> Callable[[], None]:
    """Work for so long by the thread's own clock."""

    def work() -> None:
        end = time.thread_time() + seconds
        while time.thread_time() < end:
            pass

    return work


@pytest.mark.parametrize("threads", [1, 2])
def test_a_run_beside_another_process_is_seen_to_be_interrupted(
    one_processor: int, threads: int
) -> None:
    code = (
        f"import os; os.sched_setaffinity(0, {{{one_processor}}})\nprint(flush=True)\nwhile True: 1"
    )
    other = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert other.stdout is not None
    other.stdout.readline()
    session: Any = Threads(threads)
    try:
        with RunWatch.of([session]) as watch:
            seconds, interrupted = watch.time(compute(0.2))
    finally:
        other.kill()
    assert interrupted
    if threads == 1:
        assert seconds == pytest.approx(0.2, rel=0.05), "the time that was not the other's"
    else:
        assert seconds > 0.25
