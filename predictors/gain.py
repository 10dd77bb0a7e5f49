"""What training a model alone gains, told from a few that were trained so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

EXPECTED = np.array([0.0, 0.65, 0.0])
"""Before anything was trained: two thirds of what a model lacks come back. Sub-networks of MiniLM
on CLINC150 got 0.8 to 1.1 of it back in 2,350 steps (eight models), 0.6 to 0.9 in 360 to 600
(three that lacked a point or more), those of a ViT on digits all of it (two)."""
DOUBT = np.array([0.01, 0.4, 0.05])
"""Standard deviations of these: a quarter, and all or more, would be no surprise."""
NOISE = 0.01
"""Standard deviation of one model's gain beside the regression's."""


@dataclass(frozen=True)
class GainModel:
    """Bayesian linear regression of the gain on what a model lacked and its part of few bits.

    mean `(3,)`, covariance `(3, 3)`: of intercept, slope by what was lacking, slope by the part.
    """

    mean: FloatArray
    covariance: FloatArray

    @classmethod
    def fit(cls, lacking: FloatArray, few_bits: FloatArray, gains: FloatArray) -> Self:
        """Learn from models that were trained alone, `(n,)` each; none will do.

        lacking: score of the full network less the model's before. few_bits: part of its layers
        below 8 bits.
        """
        X, prior = _features(lacking, few_bits), np.diag(DOUBT**-2)
        covariance = np.linalg.inv(prior + X.T @ X / NOISE**2)
        mean = covariance @ (prior @ EXPECTED + X.T @ gains / NOISE**2)
        return cls(np.asarray(mean, np.float64), np.asarray(covariance, np.float64))

    def predict(self, lacking: FloatArray, few_bits: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Expected gains and their standard deviations, `(n,)` each."""
        X = _features(lacking, few_bits)
        variance = np.einsum("nk,kl,nl->n", X, self.covariance, X) + NOISE**2
        return X @ self.mean, np.sqrt(variance)


def _features(lacking: FloatArray, few_bits: FloatArray) -> FloatArray:
    return np.stack([np.ones(len(lacking)), lacking, few_bits], axis=1)
