"""Who evaluates the waiting candidates: this process, its children, or workers elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, Self

import numpy as np

from hardware.processors import PROCESSORS_VARIABLE, processors
from nas.evaluation.candidate import Candidate
from nas.evaluation.record import Measured
from nas.experiment.database_url import STORAGE_VARIABLE
from nas.ledger.ledger import Ledger, Ticket
from nas.ledger.storage import RETRIES
from nas.run.interrupts import DISK_ERRORS, POLL_S, StopRequest
from nas.run.progress import describe

Evaluate = Callable[[Candidate], Measured]

LONGEST_POLL_S = 2.0
DRIVER_VARIABLE = "SIMQNAS_DRIVER"
"""Environment variable by which a driver's own workers know it: they end when it does."""


class ExecutorError(ValueError):
    """Nobody is left to evaluate candidates."""


class Executor(Protocol):
    """Evaluates candidates."""

    def work_off(self, ledger: Ledger, tell: Callable[[], None]) -> None:
        """Return when no candidate waits or is being evaluated; calls `tell` now and then."""


@dataclass(frozen=True)
class InProcess:
    """This process, one candidate after the other."""

    evaluate: Evaluate

    def work_off(self, ledger: Ledger, tell: Callable[[], None]) -> None:
        """Evaluate everything that waits; see `Executor`."""
        while (ticket := ledger.take()) is not None:
            evaluate_ticket(ledger, ticket, self.evaluate)
            tell()


def evaluate_ticket(ledger: Ledger, ticket: Ticket, evaluate: Evaluate) -> None:
    """Evaluate a claimed candidate and record the outcome, a failure included.

    Raises OSError if the disk is full or read-only: the candidate then stays claimed, and the next
    start of the run takes it up again.
    """
    try:
        with ledger.queue.heartbeat(ticket.trial):
            measured = evaluate(ticket.candidate)
        wrong = [name for name, value in measured.metrics.items() if not np.isfinite(value)]
        if wrong:
            raise ValueError(f"{', '.join(wrong)} is not finite")
    except Exception as error:  # whatever breaks one candidate must not break the run
        if isinstance(error, OSError) and error.errno in DISK_ERRORS:
            raise
        ledger.fail(ticket, describe(error))
    else:
        ledger.finish(ticket, measured)


def serve(
    ledger: Ledger, evaluate: Evaluate, request: StopRequest, driver: str | None = None
) -> int:
    """Evaluate what waits or will come; returns how many.

    driver: the parent process, whose end is this one's; without it, the ledger's state says when.
    Raises Stopped when asked to stop, after the candidate under way.
    """
    evaluated = 0
    while _is_wanted(ledger, driver):
        started = time.monotonic()
        ticket = ledger.take()
        if ticket is None:
            pause(started)
        else:
            evaluate_ticket(ledger, ticket, evaluate)
            evaluated += 1
        request.stop_if_asked()
    return evaluated


def _is_wanted(ledger: Ledger, driver: str | None) -> bool:
    if driver is None:
        return ledger.state.open
    return driver == str(os.getppid())


def pause(started: float) -> None:
    """Wait before the next look at the ledger: longer where looking took long."""
    time.sleep(min(max(POLL_S, 10 * (time.monotonic() - started)), LONGEST_POLL_S))


@dataclass
class WorkerPool:
    """Worker processes of this machine, replaced when they die; with none, workers elsewhere."""

    folder: Path
    number: int
    storage: str | None = None
    _workers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    _left: int = 0
    _deaths: int = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Let the workers finish what they are at and wait for them."""
        for worker in self._workers:
            worker.terminate()
        for worker in self._workers:
            worker.wait()

    def work_off(self, ledger: Ledger, tell: Callable[[], None]) -> None:
        """Wait until the workers are done, replacing dead ones; see `Executor`."""
        while left := ledger.unfinished:
            started = time.monotonic()
            if left != self._left:
                self._left, self._deaths = left, 0
            self._replace_dead()
            ledger.settle()
            tell()
            pause(started)
        tell()

    def _replace_dead(self) -> None:
        """Hire for workers that are gone, unless that has led nowhere.

        A candidate that kills its worker has failed after `RETRIES` further ones; if so many have
        died for every worker and nothing is settled, they die of something else.
        """
        codes = [code for worker in self._workers if (code := worker.poll()) is not None]
        if 2 in codes:
            raise ExecutorError("a worker could not start; its message is above")
        self._deaths += len(codes)
        if self._deaths > self.number * (RETRIES + 1):
            how = f"signal {-codes[-1]}" if codes[-1] < 0 else f"exit code {codes[-1]}"
            raise ExecutorError(
                f"workers ended {self._deaths} times without settling a candidate (the last by "
                f"{how}; out of memory?); give them more of it, or fewer --workers"
            )
        self._workers = [worker for worker in self._workers if worker.returncode is None]
        self._workers += [self._start_worker() for _ in range(self.number - len(self._workers))]

    def _start_worker(self) -> subprocess.Popen[bytes]:
        command: Sequence[str] = [sys.executable, "-m", "cli", "worker", str(self.folder)]
        url = {} if self.storage is None else {STORAGE_VARIABLE: self.storage}
        part = {PROCESSORS_VARIABLE: str(max(1, processors() // self.number))}
        environment = {**os.environ, **url, **part, DRIVER_VARIABLE: str(os.getpid())}
        return subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL
        )  # our own command
