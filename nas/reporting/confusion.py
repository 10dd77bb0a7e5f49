"""Which samples of test a model answers otherwise than another one, by class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from supernets.metrics.metric import Rows

Outcome = tuple[Rows, Rows]
"""Outputs and targets of every sample."""
SHOWN = 10
"""Changed answers that are listed."""


@dataclass(frozen=True)
class Confusion:
    """Two models on the same samples, each of which has one class.

    classes: (class, samples, right by both, by the model alone, by the other alone, by neither).
    changes: (the other's answer, the model's answer, samples), the commonest first.
    """

    CLASSES: ClassVar = ("class", "samples", "both right", "gained", "lost", "both wrong")
    CHANGES: ClassVar = ("was answered", "is answered", "samples")

    classes: tuple[tuple[str, ...], ...]
    changes: tuple[tuple[str, ...], ...]

    @classmethod
    def of(cls, ours: Outcome, theirs: Outcome, names: Sequence[str]) -> Self | None:
        """Compare; None where samples have no single class."""
        outputs, targets = ours
        if not (isinstance(outputs, np.ndarray) and isinstance(targets, np.ndarray)):
            return None
        if outputs.ndim != 2 or targets.ndim != 1 or targets.dtype.kind not in "iu":
            return None
        model, other = outputs.argmax(axis=1), np.asarray(theirs[0]).argmax(axis=1)
        called = list(names) if len(names) == outputs.shape[1] else None
        rows = [
            (_name(called, one), *map(str, _counts(model, other, targets, one)))
            for one in np.unique(targets)
        ]
        pairs = zip(other.tolist(), model.tolist(), strict=True)
        changed = Counter((was, now) for was, now in pairs if was != now)
        changes = [
            (_name(called, was), _name(called, now), str(count))
            for (was, now), count in changed.most_common(SHOWN)
        ]
        return cls(tuple(rows), tuple(changes))


def _counts(
    model: NDArray[Any], other: NDArray[Any], targets: NDArray[Any], one: int
) -> tuple[int, int, int, int, int]:
    of_class = targets == one
    ours, theirs = (model == one)[of_class], (other == one)[of_class]
    return (
        int(of_class.sum()),
        int((ours & theirs).sum()),
        int((ours & ~theirs).sum()),
        int((theirs & ~ours).sum()),
        int((~ours & ~theirs).sum()),
    )


def _name(names: Sequence[str] | None, one: int) -> str:
    return str(one) if names is None else names[one]
