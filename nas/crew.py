"""Who evaluates the waiting candidates: this process, its children, or workers elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np

from nas.candidate import Candidate
from nas.database_url import STORAGE_VARIABLE
from nas.ledger import Ledger, Ticket
from nas.stop import DISK_ERRORS, StopRequest

Evaluate = Callable[[Candidate], tuple[dict[str, float], dict[str, Any]]]

POLL_S = 0.2
DRIVER_VARIABLE = "SIMQNAS_DRIVER"
"""Environment variable by which a driver's own workers know it: they end when it does."""


class CrewError(ValueError):
    """Nobody is left to evaluate candidates."""


class Crew(Protocol):
    """Evaluates candidates."""

    def work_off(self, ledger: Ledger, tell: Callable[[], None]) -> None:
        """Return when no candidate waits or is being evaluated; calls `tell` now and then."""


@dataclass(frozen=True)
class Alone:
    """This process, one candidate after the other."""

    evaluate: Evaluate

    def work_off(self, ledger: Ledger, tell: Callable[[], None]) -> None:
        """Evaluate everything that waits; see `Crew`."""
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
            metrics, details = evaluate(ticket.candidate)
        wrong = [name for name, value in metrics.items() if not np.isfinite(value)]
        if wrong:
            raise ValueError(f"{', '.join(wrong)} is not finite")
    except Exception as error:  # whatever breaks one candidate must not break the run
        if isinstance(error, OSError) and error.errno in DISK_ERRORS:
            raise
        ledger.fail(ticket, f"{type(error).__name__}: {error}")
    else:
        ledger.finish(ticket, metrics, details)


def serve(
    ledger: Ledger, evaluate: Evaluate, request: StopRequest, driver: str | None = None
) -> int:
    """Evaluate what waits or will come; returns how many.

    Ends when the ledger's driver says that it is done, or the parent process `driver` is gone.
    Raises Stopped when asked to stop, after the candidate under way.
    """
    evaluated = 0
    while ledger.notes.get("open", True) and driver in (None, str(os.getppid())):
        started = time.monotonic()
        ticket = ledger.take()
        if ticket is None:
            pause(started)
        else:
            evaluate_ticket(ledger, ticket, evaluate)
            evaluated += 1
        request.check()
    return evaluated


def pause(started: float) -> None:
    """Wait before the next look at the ledger: longer where looking took long."""
    time.sleep(max(POLL_S, 10 * (time.monotonic() - started)))


@dataclass
class Team:
    """Worker processes of this machine, replaced when they die; with none, workers elsewhere."""

    folder: Path
    number: int
    storage: str | None = None
    _workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let the workers finish what they are at and wait for them."""
        for worker in self._workers:
            worker.terminate()
        for worker in self._workers:
            worker.wait()

    def work_off(self, ledger: Ledger, tell: Callable[[], None]) -> None:
        """Wait until the workers are done, replacing dead ones; see `Crew`."""
        while ledger.unfinished:
            started = time.monotonic()
            self._replace_dead()
            ledger.settle()
            tell()
            pause(started)
        tell()

    def _replace_dead(self) -> None:
        for worker in self._workers:
            if worker.poll() == 2:
                raise CrewError("a worker could not start; its message is above")
        self._workers = [worker for worker in self._workers if worker.poll() is None]
        self._workers += [self._hire() for _ in range(self.number - len(self._workers))]

    def _hire(self) -> subprocess.Popen[bytes]:
        command: Sequence[str] = [sys.executable, "-m", "cli", "worker", str(self.folder)]
        url = {} if self.storage is None else {STORAGE_VARIABLE: self.storage}
        environment = {**os.environ, **url, DRIVER_VARIABLE: str(os.getpid())}
        return subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL
        )  # our own command
