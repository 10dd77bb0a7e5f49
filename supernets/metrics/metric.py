"""How well answers fit their targets: what a quality metric is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Rows = Array | list[Array]
"""A row per sample: one array, or arrays of different length."""
Score = Callable[[Any, Any, Sequence[str]], float]

RESAMPLES = 200


@dataclass(frozen=True)
class Quality:
    """A quality metric.

    score: of outputs and targets, a row per sample each, and the names of the labels. title: in
    words. right: of outputs and targets, which samples are answered rightly, where the score is
    their share.
    """

    name: str
    title: str
    score: Score
    direction: Literal["maximize", "minimize"] = "maximize"
    right: Callable[[Any, Any], Array] | None = None

    @property
    def sign(self) -> float:
        """What a value is multiplied by where more has to be better."""
        return 1.0 if self.direction == "maximize" else -1.0

    def scale(self, reference: float) -> float:
        """What points are hundredths of: 1, or a reference's value where less is better."""
        return 1.0 if self.direction == "maximize" else abs(reference)

    def worse_by(self, value: float, other: float) -> float:
        """How much worse a value is than another one; negative where it is better."""
        return self.sign * (other - value)

    def standard_error(self, outputs: Rows, targets: Rows, names: Sequence[str]) -> float:
        """Of a share by formula, else the deviation of scores of samples drawn with replacement."""
        if self.right is not None:
            share = float(self.right(outputs, targets).mean())
            return float((share * (1 - share) / len(targets)) ** 0.5)
        rng = np.random.default_rng(0)
        draws = rng.integers(len(targets), size=(RESAMPLES, len(targets)))
        scores = [self.score(taken(outputs, d), taken(targets, d), names) for d in draws]
        return float(np.std(scores))


def taken(rows: Rows, places: NDArray[np.int64]) -> Rows:
    """The rows at these places."""
    return rows[places] if isinstance(rows, np.ndarray) else [rows[place] for place in places]
