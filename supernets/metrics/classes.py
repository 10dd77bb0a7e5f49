"""Metrics of one class per row: outputs are logits `(n, classes)`, targets class numbers `(n,)`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from supernets.metrics.metric import Array, Quality


def right(logits: Array, classes: Array) -> Array:
    """Whether a sample's largest logit is its class's `(n,)`."""
    return np.asarray(logits.argmax(axis=-1) == classes)


def accuracy(logits: Array, classes: Array, names: Sequence[str]) -> float:
    """Part of the samples whose largest logit is their class's."""
    return float(right(logits, classes).mean())


def binomial_error(share: float, samples: int) -> float:
    """Standard error of a share."""
    return float((share * (1 - share) / samples) ** 0.5)


ACCURACY = Quality("accuracy", "accuracy", accuracy, error=binomial_error, right=right)
