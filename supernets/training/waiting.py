"""How torch's threads wait for each other: awake where processors are free, else asleep."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import Event, Thread

import torch

from hardware.processors import waits_of_all_threads

LOOK_S = 0.25
CROWDED_PART = 0.05
"""Of this time that threads wait for a processor, on average, from which on others want it too."""
LOOP_ELEMENTS = 1 << 20
"""Enough for torch to share a loop among its threads."""


@contextmanager
def waiting_by_load() -> Iterator[None]:
    """Threads of torch sleep at once while others want the processors; answers are the same.

    At the end of a parallel loop, of which a step of a small network has a thousand, GNU OpenMP's
    threads look GOMP_SPINCOUNT times whether the others are there before they sleep, and hardly
    ever while a process has more such threads than processors (libgomp, "GOMP_SPINCOUNT"). So idle
    ones are added while ours wait for processors. Where the system does not tell of waits, nothing
    is done. Figures: benchmarks/README.md, "Tuning cost".
    """
    if torch.get_num_threads() == 1:
        yield
        return
    ended = Event()
    watcher = Thread(target=_watch, args=(ended, torch.get_num_threads()), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


def _watch(ended: Event, threads: int) -> None:
    with ExitStack() as idle:
        added = False
        while True:
            with waits_of_all_threads() as waited_s:
                before_s = waited_s()
                if ended.wait(LOOK_S):
                    return
                crowded = waited_s() - before_s > CROWDED_PART * LOOK_S * threads
            if crowded and not added:
                idle.enter_context(_idle_threads())
            elif not crowded:
                idle.close()
            added = crowded


@contextmanager
def _idle_threads() -> Iterator[None]:
    """As many as torch shares a loop among: they stay as long as the thread that had a loop."""
    ready, leave = Event(), Event()

    def stay() -> None:
        try:
            torch.zeros(LOOP_ELEMENTS).relu_()
        finally:
            ready.set()
        leave.wait()

    thread = Thread(target=stay, daemon=True)
    thread.start()
    ready.wait()
    try:
        yield
    finally:
        leave.set()
        thread.join()
