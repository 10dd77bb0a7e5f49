"""The quality metrics there are, by name; free of torch."""

from __future__ import annotations

from supernets.metrics import classes
from supernets.metrics.metric import Quality

QUALITIES: dict[str, Quality] = {entry.name: entry for entry in (classes.ACCURACY,)}


def quality(name: str) -> Quality:
    """The metric of that name."""
    return QUALITIES[name]
