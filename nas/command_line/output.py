"""What the commands print: for people, for scripts, and of mistakes."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, NoReturn

import typer
from rich.console import Console, Group, RenderableType
from rich.measure import Measurement
from rich.protocol import rich_cast
from rich.table import Table

from nas.experiment.database_url import masked_text
from nas.run.interrupts import DISK_ERRORS

if TYPE_CHECKING:
    from nas.delivery.results import Front

EXIT_CODES = {
    0: "done",
    1: "a fault of simqnas itself, with a traceback",
    2: "something to put right, told in one line",
    130: "stopped, the same command continues",
}
console = Console()


def print_json(value: object) -> None:
    """Print plain values as JSON; what is none is printed as text."""
    typer.echo(json.dumps(value, indent=2, default=str))


def print_line(line: object) -> None:
    """Print a line as it is, not wrapped: paths in it can be copied."""
    console.print(str(line), highlight=False, markup=False, soft_wrap=True)


def print_shown(shown: RenderableType) -> None:
    """Print text or tables; a table's rows in lines where the console would cut its words."""
    for part in shown.renderables if isinstance(shown, Group) else (rich_cast(shown),):
        if isinstance(part, Table) and _least_width(part) > console.width:
            for line in _in_lines(part):
                print_line(line)
        else:
            console.print(part, highlight=False, markup=False)


def _least_width(table: Table) -> int:
    """Columns of a console that holds the longest word of every cell."""
    unbounded = console.options.update(width=10_000)
    return Measurement.get(console, unbounded, table).minimum


def _in_lines(table: Table) -> Iterator[str]:
    """A line for every cell, those after the first of a row indented."""
    if table.title:
        yield f"{table.title}:"
    for row in zip(*(column.cells for column in table.columns), strict=True):
        for place, (column, cell) in enumerate(zip(table.columns, row, strict=True)):
            name = f"{column.header}: " if column.header else ""
            yield f"{'  ' if place else ''}{name}{cell}"
    if table.caption:
        yield str(table.caption)


def progress_console(as_json: bool) -> Console:
    """Where progress is shown: standard output is a script's if it wants JSON."""
    return Console(stderr=True) if as_json else console


def print_front(front: Front) -> None:
    """Print the front, what to take for which need, and what is wrong with a model."""
    from nas.reporting.offers import TABLE_COLUMNS, offer_lines, offers_table
    from nas.reporting.texts import front_table, recommendation

    if console.width < TABLE_COLUMNS:
        for line in offer_lines(front):
            console.print(line, highlight=False, markup=False)
    else:
        console.print(front_table(front))
        console.print(offers_table(front))
    console.print(recommendation(front), style="bold green", highlight=False)
    for line in front.runtime_problems():
        console.print(line, style="bold red", highlight=False, markup=False)


def message(error: ValueError | OSError | ModuleNotFoundError) -> str:
    """What a user reads of an error."""
    if isinstance(error, ModuleNotFoundError):
        return (
            f"{error.name} is not installed; what trains and searches needs it: "
            "pip install 'simqnas[train]'"
        )
    text = masked_text(str(error))
    if isinstance(error, OSError) and error.errno in DISK_ERRORS:
        text += "; nothing recorded is lost: make room and run the same command again"
    return text


def fail(text: str, code: int) -> NoReturn:
    """Print a mistake to standard error and end with one of `EXIT_CODES`."""
    error_console = Console(stderr=True)
    for line in text.splitlines():
        error_console.print(f"error: {line}", highlight=False, markup=False, soft_wrap=True)
    sys.exit(code)
