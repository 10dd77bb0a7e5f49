"""Small charts that need no script: coordinates for the page's templates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

WIDTH, HEIGHT = 460, 260
LEFT, RIGHT, TOP, BOTTOM = 62, 14, 12, 44
"""Room around the drawn area, in the units of the picture."""

Point = tuple[float, float]


@dataclass(frozen=True)
class Chart:
    """Points or a line in a frame; everything in the units of the picture.

    title: what a screen reader says. ticks: (place, label). diagonal: the line of equal values.
    """

    title: str
    x_title: str
    y_title: str
    points: tuple[Point, ...]
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    is_line: bool = False
    diagonal: tuple[Point, Point] | None = None

    @property
    def path(self) -> str:
        """The points as those of a polyline."""
        return " ".join(f"{x:.1f},{y:.1f}" for x, y in self.points)


def line_chart(title: str, x_title: str, y_title: str, points: Sequence[Point]) -> Chart:
    """A line that keeps its value until the next point."""
    steps = list(points[:1])
    for before, after in pairwise(points):
        steps += [(after[0], before[1]), after]
    across = _Scale.over([x for x, _ in points], LEFT, WIDTH - RIGHT)
    upwards = _Scale.over([y for _, y in points], HEIGHT - BOTTOM, TOP)
    placed = tuple((across.at(x), upwards.at(y)) for x, y in steps)
    return Chart(title, x_title, y_title, placed, across.ticks, upwards.ticks, is_line=True)


def scatter_of_equals(title: str, x_title: str, y_title: str, points: Sequence[Point]) -> Chart:
    """Points in a square scale for both axes, and the line on which both values are equal."""
    values = [value for point in points for value in point]
    across = _Scale.over(values, LEFT, WIDTH - RIGHT)
    upwards = _Scale.over(values, HEIGHT - BOTTOM, TOP)
    low, high = min(values), max(values)
    line = (across.at(low), upwards.at(low)), (across.at(high), upwards.at(high))
    placed = tuple((across.at(x), upwards.at(y)) for x, y in points)
    return Chart(title, x_title, y_title, placed, across.ticks, upwards.ticks, diagonal=line)


@dataclass(frozen=True)
class _Scale:
    """Values to places of the picture, and round values between."""

    low: float
    high: float
    first: float
    last: float

    @classmethod
    def over(cls, values: Sequence[float], first: float, last: float) -> _Scale:
        low, high = min(values), max(values)
        pad = 0.04 * (high - low) or abs(high) * 0.1 or 1.0
        return cls(low - pad, high + pad, first, last)

    def at(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return round(self.first + share * (self.last - self.first), 1)

    @property
    def ticks(self) -> tuple[tuple[float, str], ...]:
        step = _round_step((self.high - self.low) / 4)
        first, last = math.ceil(self.low / step), math.floor(self.high / step)
        return tuple((self.at(n * step), f"{n * step:.6g}") for n in range(first, last + 1))


def _round_step(least: float) -> float:
    """The next of 1, 2, 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * 0.999)
