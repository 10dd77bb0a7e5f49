"""Two models on the same samples: how far apart they are, and whether that can be told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy.stats import binom

from supernets.metrics.metric import Array, Quality, Rows, taken

Z95 = 1.959964
"""Standard deviations on either side that hold 95 % of a normal distribution."""
RESAMPLES = 400


@dataclass(frozen=True)
class Comparison:
    """A model's value of a metric minus another's, both on the same samples.

    error: standard error of the difference. p: the chance of a difference as bad or worse where the
    model is not worse. samples: that both answered.
    """

    difference: float
    error: float
    p: float
    samples: int

    @classmethod
    def of(
        cls, metric: Quality, ours: Rows, theirs: Rows, targets: Rows, names: Sequence[str]
    ) -> Self:
        """Compare outputs of two models, a row per sample each."""
        if metric.right is not None:
            return cls.of_shares(metric.right(ours, targets), metric.right(theirs, targets))
        return cls._resampled(metric, ours, theirs, targets, names)

    @classmethod
    def of_shares(cls, ours: Array, theirs: Array) -> Self:
        """Compare what two models got right, `(n,)` each.

        The interval is Bonett and Price's adjusted one for paired shares (2012, equation 4): one
        sample more of either kind that only one model got right keeps it honest where there are
        few. The test is McNemar's, exact.
        """
        n = len(ours)
        won, lost = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
        a, b = (won + 1) / (n + 2), (lost + 1) / (n + 2)
        error = ((a + b - (a - b) ** 2) / (n + 2)) ** 0.5
        p = float(binom.cdf(won, won + lost, 0.5)) if won + lost else 1.0
        return cls((won - lost) / n, float(error), p, n)

    @classmethod
    def _resampled(
        cls, metric: Quality, ours: Rows, theirs: Rows, targets: Rows, names: Sequence[str]
    ) -> Self:
        """The same for any metric, by drawing the samples again with replacement."""
        n = len(targets)
        draws = np.random.default_rng(0).integers(n, size=(RESAMPLES, n))

        def gap(a: Rows, b: Rows, wanted: Rows) -> float:
            return metric.score(a, wanted, names) - metric.score(b, wanted, names)

        gaps = [gap(taken(ours, d), taken(theirs, d), taken(targets, d)) for d in draws]
        spread = np.array(gaps)
        spread = spread[np.isfinite(spread)]  # a draw may lack a class that the metric needs
        p = (1 + int((metric.sign * spread >= 0).sum())) / (len(spread) + 1)
        return cls(gap(ours, theirs, targets), float(np.std(spread)), p, n)

    @property
    def interval(self) -> tuple[float, float]:
        """Of 95 %, for the difference on samples without number."""
        return self.difference - Z95 * self.error, self.difference + Z95 * self.error

    def expected_on(self, samples: int) -> tuple[float, float]:
        """The interval of 95 % for the difference on so many other samples."""
        error = self.error * (1 + self.samples / samples) ** 0.5
        return self.difference - Z95 * error, self.difference + Z95 * error
