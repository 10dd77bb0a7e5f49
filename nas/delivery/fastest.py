"""The fastest of several models, as far as times can be told apart."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

Model = TypeVar("Model")

AS_FAST = 1.03
"""Times the least latency up to which a model is as fast: by so much ratios scatter where nothing
disturbs them (see `hardware/latency.py`)."""


def fastest_of(
    models: Iterable[Model],
    doubts: Callable[[Model], tuple[bool, ...]],
    latency: Callable[[Model], float],
    size: Callable[[Model], float],
) -> Model:
    """The smallest of those that are as fast as the fastest; no other is both faster and smaller.

    doubts: of a model, which is taken only where there is none with less of them. Raises ValueError
    where there are no models.
    """
    known = list(models)
    least = min(map(doubts, known))
    believed = [model for model in known if doubts(model) == least]
    limit = AS_FAST * min(map(latency, believed))
    as_fast = [model for model in believed if latency(model) <= limit]
    return min(as_fast, key=lambda model: (size(model), latency(model)))
