"""Durations as people write them."""

from __future__ import annotations

import re

_SHAPE = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]+)", re.IGNORECASE)
_UNITS = {
    1: ("s", "sec", "second", "seconds"),
    60: ("m", "min", "mins", "minute", "minutes"),
    3600: ("h", "hour", "hours"),
}
LONGEST_S = 365 * 24 * 3600.0


def parse_duration(text: str) -> float:
    """Seconds of `30 min`, `1.5 h` or `90 s`. Raises ValueError for anything else."""
    match = _SHAPE.fullmatch(text.strip())
    factor = match and next((f for f, names in _UNITS.items() if match[2].lower() in names), None)
    seconds = float(match[1]) * factor if match and factor else 0.0
    if not 0 < seconds <= LONGEST_S:
        raise ValueError(
            f"duration {text!r} must be a number above 0 and a unit (s, min, h), at most a year, "
            "such as 30 min"
        )
    return seconds


def readable_duration(text: str) -> str:
    """The text itself. Raises ValueError if it is no duration."""
    parse_duration(text)
    return text
