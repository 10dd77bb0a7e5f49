"""What training a model alone gains, told from a few that were trained so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

EXPECTED = np.array([-0.003, 0.85, 0.0])
"""Before anything was trained: most of what a model lacks comes back, but for 0.3 points, as those
that are chosen look better than they are. Chosen by 32 models of 13 runs, on validation (MiniLM on
two tasks; a ViT, a ResNet and a BERT from random weights): by it and what earlier ones of their run
gained, the 10 of short runs are foretold to 0.33 points (root mean square) and the others to 1.5,
by half of what is lacking, as before, to 0.42 and 1.8."""
DOUBT = np.array([0.01, 0.3, 0.02])
"""Standard deviations of these: half, and all or more, would be no surprise."""
NOISE = 0.006
"""Standard deviation of one model's gain beside the regression's."""


@dataclass(frozen=True)
class GainModel:
    """Bayesian linear regression of the gain on what a model lacked and its part of few bits.

    Both are of a score that has 1 for perfect, or parts of the full network's.

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
