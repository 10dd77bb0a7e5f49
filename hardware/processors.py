"""How many processors and how much memory there are for this process, and how long its threads wait
for a processor."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

PROCESSORS_VARIABLE = "SIMQNAS_PROCESSORS"
"""Environment variable by which processes that share a machine know their part of it."""
TASKS = Path("/proc/self/task")
GROUP = Path("/proc/self/cgroup")
GROUPS = Path("/sys/fs/cgroup")


def processors() -> int:
    """How many this process may use at the same time, as far as the system and its user say."""
    stated = (os.environ.get(name, "") for name in ("OMP_NUM_THREADS", PROCESSORS_VARIABLE))
    limits = [int(number) for number in stated if number.isdigit()]
    return max(1, math.floor(min([_given(), quota(), *limits])))


def _given() -> int:
    affinity = getattr(os, "sched_getaffinity", None)  # not everywhere
    return (os.cpu_count() or 1) if affinity is None else len(affinity(0))


def quota() -> float:
    """Processors' worth of time that a container's limit allows (cgroup v2); infinite without one.

    The file `cpu.max` of a group, and of those around it, holds microseconds of every so many; one
    that may not be read limits nothing that is known.
    """
    limits = (int(most) / int(period) for most, period in _limits("cpu.max") if most != "max")
    return min(limits, default=math.inf)


def memory() -> int:
    """Bytes of memory that this process may use: the machine's, or a container's limit."""
    limits = (int(most) for (most,) in _limits("memory.max") if most != "max")
    return min([os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), *limits])


def _limits(file: str) -> Iterator[list[str]]:
    """What a file of this name says in our control group, and in those around it."""
    lines = GROUP.read_text().splitlines() if GROUP.exists() else []
    group = next((line.removeprefix("0::/") for line in lines if line.startswith("0::/")), "")
    for place in (Path(group), *Path(group).parents):
        with suppress(OSError):  # the outermost group has none
            yield (GROUPS / place / file).read_text().split()


def limit_threads() -> None:
    """Let OpenMP start no more threads than a container's limit allows, where nothing is stated.

    It counts the processors of the machine. To be called before torch is loaded.
    """
    if quota() < _given():
        os.environ.setdefault("OMP_NUM_THREADS", str(processors()))


@contextmanager
def waits_of_all_threads() -> Iterator[Callable[[], float]]:
    """Seconds that the threads of now have waited so far, 0 where the system does not tell.

    A thread that is woken up and finds no free processor waits without being switched.
    """
    with ExitStack() as stack:
        files = list[int]()
        for path in TASKS.glob("*/schedstat"):
            with suppress(FileNotFoundError):  # it has ended since
                files.append(os.open(path, os.O_RDONLY))
                stack.callback(os.close, files[-1])
        yield lambda: sum(map(_waited, files))


def _waited(file: int) -> float:
    """Seconds a thread has waited by its schedstat: nanoseconds computed, waited, and turns."""
    try:
        return int(os.pread(file, 64, 0).split()[1]) * 1e-9
    except ProcessLookupError:  # it has ended
        return 0.0
