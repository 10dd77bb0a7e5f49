"""How long a run took, and whether other work interrupted it."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import onnxruntime

from hardware.processors import waits_of_all_threads

LOST_PART, LOST_S = 0.01, 1e-5
"""What a run may lose to others, of its own time and beside it, and count as uninterrupted."""
THREAD = getattr(resource, "RUSAGE_THREAD", resource.RUSAGE_SELF)
"""Only Linux counts the context switches of a thread; elsewhere those of the process count."""


@dataclass(frozen=True)
class RunWatch:
    """Clocks and counters that are read before and after a run.

    wall: seconds that pass.
    processor: seconds that the calling thread computes; None where others compute for it, as the
    threads of a pool or a GPU do.
    switches: involuntary context switches so far.
    waited: seconds that threads have waited for a processor so far; known on Linux.
    """

    wall: Callable[[], float] = time.perf_counter
    processor: Callable[[], float] | None = time.thread_time
    switches: Callable[[], int] = lambda: resource.getrusage(THREAD).ru_nivcsw
    waited: Callable[[], float] = lambda: 0.0
    sleep: Callable[[float], None] = time.sleep

    @classmethod
    @contextmanager
    def of(cls, sessions: Iterable[onnxruntime.InferenceSession]) -> Iterator[RunWatch]:
        """The watch for runs of these sessions: of the calling thread, or of a pool of threads."""
        if all(map(_runs_in_the_calling_thread, sessions)):
            yield cls()
        else:
            with waits_of_all_threads() as waited:
                yield cls(processor=None, switches=_switches_of_all_threads, waited=waited)

    def time(self, run: Callable[[], object]) -> tuple[float, bool]:
        """Seconds of a run, and whether something interrupted it.

        Of an interrupted run the processor's seconds, where they are known: they come nearest to
        what it takes alone.
        """
        switches, waited = self.switches(), self.waited()
        computed = self.processor() if self.processor else 0.0
        start = self.wall()
        run()
        seconds = self.wall() - start
        computed = self.processor() - computed if self.processor else seconds
        lost = seconds - computed + self.waited() - waited
        interrupted = self.switches() > switches or lost > LOST_PART * seconds + LOST_S
        return computed if interrupted else seconds, interrupted


def _runs_in_the_calling_thread(session: onnxruntime.InferenceSession) -> bool:
    threads = session.get_session_options().intra_op_num_threads
    return bool(threads == 1 and session.get_providers()[0] == "CPUExecutionProvider")


def _switches_of_all_threads() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
