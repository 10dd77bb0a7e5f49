"""What a run tells about itself while it works."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column

NARROW = 100
"""Columns of a terminal below which a bar leaves no room for what is best so far."""


class Stage(Protocol):
    """One stage under way."""

    def update(self, step: int, total: int, note: str = "") -> None:
        """Say that `step` of `total` is done, and what is best or newest so far."""


class Reporter(Protocol):
    """Where a run reports to."""

    def stage(self, title: str) -> Stage:
        """Start a stage; the one before it is over."""

    def say(self, message: str) -> None:
        """Print a line that stays."""


class RichStage:
    """A progress bar on a terminal, a line every tenth of the way elsewhere."""

    def __init__(self, progress: Progress, title: str, console: Console):
        self._progress = progress
        self._console = console
        self._title = title
        self._task = progress.add_task(title, total=None, note="")
        self._tenth = -1

    def update(self, step: int, total: int, note: str = "") -> None:
        """Move the bar; see `Stage`."""
        self._progress.update(self._task, completed=step, total=total, note=note)
        tenth = step * 10 // max(total, 1)
        if not self._console.is_terminal and tenth > self._tenth:
            self._tenth = tenth
            line = f"{self._title}: {step}/{total} {note}"
            self._console.print(line, highlight=False, markup=False)


class RichReporter:
    """Progress bars with step, time left and the best so far."""

    def __init__(self, console: Console, progress: Progress):
        self._console = console
        self._progress = progress

    def stage(self, title: str) -> RichStage:
        """Start a bar; see `Reporter`."""
        return RichStage(self._progress, title, self._console)

    def say(self, message: str) -> None:
        """Print a line above the bars; see `Reporter`."""
        self._console.print(_visible(message), highlight=False, markup=False)


def _visible(message: str) -> str:
    """A message whose parts may come from a data set: without what steers a terminal."""
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in message)


@contextmanager
def rich_reporter(console: Console) -> Iterator[RichReporter]:
    """Show progress on `console` while the context is open."""
    wide: tuple[ProgressColumn, ...] = (BarColumn(bar_width=24), TimeElapsedColumn())
    columns = (
        TextColumn("{task.description}"),
        MofNCompleteColumn(),
        *(wide if console.width >= NARROW else ()),
        TextColumn("left"),
        TimeRemainingColumn(),
        # What does not fit is cut: a line that wraps would be drawn over and over again.
        TextColumn("{task.fields[note]}", table_column=Column(no_wrap=True, overflow="ellipsis")),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        yield RichReporter(console, progress)


def describe(error: Exception) -> str:
    """An error in words, for one that says nothing of itself too."""
    silent = "out of memory" if isinstance(error, MemoryError) else "no reason given"
    return f"{type(error).__name__}: {str(error) or silent}"
