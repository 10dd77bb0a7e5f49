"""Text of unknown origin in Markdown, shown as it is and never understood."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape

SPECIAL = re.compile(r"[\\`*\[\]|]")


def markdown_text(text: str) -> str:
    """One line of Markdown that reads as `text`: no markup, no HTML, no link, no new cell."""
    return SPECIAL.sub(r"\\\g<0>", escape(" ".join(text.split()), quote=False))


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a table; cells are Markdown."""
    head, *lines = [f"| {' | '.join(cells)} |" for cells in (columns, *rows)]
    return [head, "|" + "---|" * len(columns), *lines]
