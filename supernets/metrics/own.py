"""A metric that the user wrote."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache, partial
from typing import Any

from supernets.metrics.metric import Quality
from supernets.user_code import user_function


@cache
def own_quality(place: str) -> Quality:
    """The metric `package.module:function`, which is imported when it is first asked for a score.

    The function is given outputs and targets, a row per sample, and the labels' names, as those of
    the task's own metrics are; it returns a number, of which more is better.
    """
    return Quality(place, place.partition(":")[2], partial(_score, place))


def _score(place: str, outputs: Any, targets: Any, names: Sequence[str]) -> float:
    given = user_function(place, "metric")(outputs, targets, names)
    try:
        value = float(given)
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"metric: {place} returned {given!r}; it must return one finite number")
    return value
