"""How threads of torch wait: asleep where others compute; their answers are the same."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from cli import SPINS
from supernets.training import waiting
from supernets.training.waiting import waiting_by_load

TASKS = Path("/proc/self/task")
ON_LINUX = pytest.mark.skipif(not TASKS.exists(), reason="the system does not tell of threads")


@pytest.fixture
def threads() -> Iterator[int]:
    """Of torch, two at least."""
    given = torch.get_num_threads()
    torch.set_num_threads(max(2, given))
    torch.zeros(waiting.LOOP_ELEMENTS).relu_()
    yield torch.get_num_threads()
    torch.set_num_threads(given)


def there() -> int:
    return len(list(TASKS.iterdir()))


def reached(number: int) -> bool:
    """Whether there are so many threads within ten seconds."""
    until = time.monotonic() + 10
    while there() != number and time.monotonic() < until:
        time.sleep(0.01)
    return there() == number


@ON_LINUX
def test_idle_threads_are_there_while_ours_wait_for_processors(
    threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They make more than there are processors, of which libgomp lets none spin long."""
    waited, per_look = [0.0], [0.0]

    @contextmanager
    def waits() -> Iterator[object]:
        def seconds() -> float:
            waited[0] += per_look[0]
            return waited[0]

        yield seconds

    monkeypatch.setattr(waiting, "waits_of_all_threads", waits)
    monkeypatch.setattr(waiting, "LOOK_S", 0.01)
    before = there()
    with waiting_by_load():
        assert reached(before + 1)
        for _ in range(2):
            per_look[0] = 1.1 * waiting.CROWDED_PART * waiting.LOOK_S * threads
            assert reached(before + 1 + threads)
            per_look[0] *= 0.8
            assert reached(before + 1)
        per_look[0] *= 2
        assert reached(before + 1 + threads)
    assert reached(before)


@ON_LINUX
def test_answers_are_the_same_however_threads_wait(threads: int) -> None:
    x = torch.randn(1 << 18, generator=torch.Generator().manual_seed(0)).requires_grad_()

    def gradient() -> torch.Tensor:
        (found,) = torch.autograd.grad((x.sigmoid() * x.exp()).sum(), x)
        return found

    alone = gradient()
    with waiting._idle_threads():
        assert torch.equal(gradient(), alone)


def test_one_thread_waits_for_nobody() -> None:
    given, before = torch.get_num_threads(), there() if TASKS.exists() else 0
    torch.set_num_threads(1)
    try:
        with waiting_by_load():
            assert not TASKS.exists() or there() == before
    finally:
        torch.set_num_threads(given)


@pytest.mark.parametrize(
    ("stated", "found"),
    [
        ({}, ["PASSIVE", SPINS]),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, ["ACTIVE", None]),
        ({"GOMP_SPINCOUNT": "7"}, ["PASSIVE", "7"]),
    ],
)
def test_what_the_user_states_of_it_counts(stated: dict[str, str], found: list[str | None]) -> None:
    names = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    clean = {name: value for name, value in os.environ.items() if name not in names}
    code = f"import os, cli; cli._set_how_threads_wait(); print([os.getenv(n) for n in {names}])"
    told = subprocess.run(
        [sys.executable, "-c", code], env={**clean, **stated}, capture_output=True, text=True
    )
    assert told.stdout.strip() == str(found)
