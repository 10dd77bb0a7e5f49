"""How many processors this process may use, and how long its threads wait for one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

PROCESSORS_VARIABLE = "SIMQNAS_PROCESSORS"
"""Environment variable by which processes that share a machine know their part of it."""
TASKS = Path("/proc/self/task")


def processors() -> int:
    """How many this process may use at the same time, as far as the system and its user say."""
    affinity = getattr(os, "sched_getaffinity", None)  # not everywhere
    given = (os.cpu_count() or 1) if affinity is None else len(affinity(0))
    stated = (os.environ.get(name, "") for name in ("OMP_NUM_THREADS", PROCESSORS_VARIABLE))
    return max(1, min([given, *(int(number) for number in stated if number.isdigit())]))


@contextmanager
def waits_of_all_threads() -> Iterator[Callable[[], float]]:
    """Seconds that the threads of now have waited so far, 0 where the system does not tell.

    A thread that is woken up and finds no free processor waits without being switched.
    """
    with ExitStack() as stack:
        files = [os.open(path, os.O_RDONLY) for path in TASKS.glob("*/schedstat")]
        for file in files:
            stack.callback(os.close, file)
        yield lambda: sum(map(_waited, files))


def _waited(file: int) -> float:
    """Seconds a thread has waited by its schedstat: nanoseconds computed, waited, and turns."""
    try:
        return int(os.pread(file, 64, 0).split()[1]) * 1e-9
    except ProcessLookupError:  # it has ended
        return 0.0
