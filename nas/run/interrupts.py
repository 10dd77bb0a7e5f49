"""Stopping a run where it loses nothing."""

from __future__ import annotations

import errno
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from nas.run.progress import Reporter, Stage

DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""A full or read-only disk would fail every candidate: the run stops instead."""


class Stopped(Exception):  # noqa: N818 # a request that was met, not an error
    """The run was asked to stop and has reached a place where nothing is lost."""


class StopRequest:
    """The first Ctrl-C (or SIGTERM) asks to stop at the next safe place, the second insists."""

    def __init__(self, notice: str = "finishing what is under way; Ctrl-C again stops at once"):
        self.asked = False
        self._notice = notice

    def stop_if_asked(self) -> None:
        """Raise Stopped if the run was asked to stop."""
        if self.asked:
            raise Stopped

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Listen to the two signals while the context is open."""
        signals = (signal.SIGINT, signal.SIGTERM)
        before = [signal.signal(number, self._hear) for number in signals]
        try:
            yield
        finally:
            for number, handler in zip(signals, before, strict=True):
                signal.signal(number, handler)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        if self._notice:
            print(self._notice, file=sys.stderr)


@dataclass(frozen=True)
class StoppableStage:
    """A stage whose updates are the safe places."""

    stage: Stage
    request: StopRequest

    def update(self, step: int, total: int, note: str = "") -> None:
        """Report progress; raises Stopped if the run was asked to stop."""
        self.stage.update(step, total, note)
        self.request.stop_if_asked()


@dataclass(frozen=True)
class StoppableReporter:
    """A reporter that ends the run between two steps of a stage when it was asked to."""

    reporter: Reporter
    request: StopRequest

    def stage(self, title: str) -> StoppableStage:
        """Start a stage; see `Reporter`."""
        self.request.stop_if_asked()
        return StoppableStage(self.reporter.stage(title), self.request)

    def say(self, message: str) -> None:
        """Print a line; see `Reporter`."""
        self.reporter.say(message)


POLL_S = 0.2
