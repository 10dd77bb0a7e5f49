"""Metrics of classes and labels.

Outputs are logits `(n, labels)`. Targets are class numbers `(n,)`, or of several labels a sample
marks `(n, labels)`; both are looked at as marks where it makes no difference.
"""

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


def balanced_accuracy(logits: Array, classes: Array, names: Sequence[str]) -> float:
    """Mean over classes of the part of its samples that is found."""
    given, wanted = marks(logits, classes)
    there = wanted.any(axis=0)
    return float(((given & wanted).sum(0) / np.maximum(wanted.sum(0), 1))[there].mean())


def f1(logits: Array, targets: Array, names: Sequence[str]) -> float:
    """Mean over labels of F1; a label that is neither there nor given does not count."""
    given, wanted = marks(logits, targets)
    both = given.sum(0) + wanted.sum(0)
    there = both > 0
    return float((2 * (given & wanted).sum(0)[there] / both[there]).mean()) if there.any() else 0.0


def f1_micro(logits: Array, targets: Array, names: Sequence[str]) -> float:
    """F1 of all labels of all samples together."""
    given, wanted = marks(logits, targets)
    return float(2 * (given & wanted).sum() / max(1, given.sum() + wanted.sum()))


def auc(logits: Array, targets: Array, names: Sequence[str]) -> float:
    """Mean over labels of the area under the ROC curve: how often a sample that has the label is
    rated above one that lacks it. Labels that all samples have, or none, do not count."""
    from scipy.stats import rankdata

    wanted = marks(logits, targets)[1]
    ratings = probabilities(logits) if targets.ndim == 1 else logits
    areas = []
    for rating, has in zip(ratings.T, wanted.T, strict=True):
        pairs = int(has.sum()) * int((~has).sum())
        if pairs:
            above = rankdata(rating)[has].sum() - has.sum() * (has.sum() + 1) / 2
            areas.append(above / pairs)
    return float(np.mean(areas)) if areas else 0.5


def mean_average_precision(logits: Array, targets: Array, names: Sequence[str]) -> float:
    """Mean over labels of the precision at each sample that has it, the best rated first."""
    found = []
    for rating, has in zip(logits.T, marks(logits, targets)[1].T, strict=True):
        if has.any():
            found.append(_average_precision(rating, has))
    return float(np.mean(found)) if found else 0.0


def _average_precision(rating: Array, has: Array) -> float:
    """Samples that are rated alike are taken together."""
    order = np.argsort(-rating, kind="stable")
    hits = has[order].cumsum()
    ends = np.flatnonzero(np.append(np.diff(rating[order]) != 0, True))
    gained = np.diff(hits[ends], prepend=0)
    return float((gained * hits[ends] / (ends + 1)).sum() / has.sum())


def probabilities(logits: Array) -> Array:
    """Softmax over labels."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    chances: Array = shifted / shifted.sum(axis=-1, keepdims=True)
    return chances


def marks(logits: Array, targets: Array) -> tuple[Array, Array]:
    """Labels that are given, and those that are wanted, as booleans `(n, labels)`."""
    if targets.ndim == 2:
        return logits > 0, targets > 0
    numbers = np.arange(logits.shape[-1])
    return logits.argmax(-1)[:, None] == numbers, targets[:, None] == numbers


ACCURACY = Quality("accuracy", "accuracy", accuracy, right=right)
BALANCED_ACCURACY = Quality("balanced_accuracy", "balanced accuracy", balanced_accuracy)
F1 = Quality("f1", "macro F1", f1)
F1_MICRO = Quality("f1_micro", "micro F1", f1_micro)
AUC = Quality("auc", "ROC AUC", auc)
MEAN_AVERAGE_PRECISION = Quality("map", "mean average precision", mean_average_precision)
