"""A table for people, and the same as plain values for scripts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table


@dataclass(frozen=True)
class Listing:
    """Rows under columns; a cell is a text, a number or several of them."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]

    def to_json(self) -> list[dict[str, Any]]:
        """A mapping per row; names of columns have no blanks."""
        names = [column.lower().replace(" ", "_") for column in self.columns]
        return [dict(zip(names, row, strict=True)) for row in self.rows]

    def __rich__(self) -> Table:
        """For a terminal."""
        table = Table(*self.columns, title=self.title)
        for row in self.rows:
            table.add_row(*map(_shown, row))
        return table


def _shown(cell: Any) -> str:
    if isinstance(cell, int | float):
        return f"{cell:,.0f}"
    return ", ".join(map(str, cell)) if isinstance(cell, list) else str(cell)
