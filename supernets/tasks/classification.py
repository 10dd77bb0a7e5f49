"""One class per sample."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from supernets.settings import TrainSettings
from supernets.tasks.task import Loss, Targets, Task, divergence


class Classification(Task):
    """One class per sample: targets are class numbers `(n,)`."""

    name = "classification"
    title = "one class a sample"
    metrics: tuple[str, ...] = ("accuracy", "balanced_accuracy", "f1", "auc")
    answer_code = 'print(json.load(open("config.json"))["id2label"][str(logits[0].argmax())])\n'

    def loss(self, settings: TrainSettings, targets: Targets, outputs: int) -> Loss:
        """Cross-entropy, smoothed and weighted as the settings say."""
        weights = class_weights(targets, outputs) if settings.class_weights == "balanced" else None
        return partial(weighted_cross_entropy, weights, settings.label_smoothing)

    def distillation(self, student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        """Kullback-Leibler divergence of the student from the teacher."""
        return divergence(student, teacher, temperature)


class Pairs(Classification):
    """One class per pair of texts."""

    name = "pairs"
    title = "one class a pair of texts"


def weighted_cross_entropy(
    weights: Tensor | None, smoothing: float, logits: Tensor, classes: Tensor
) -> Tensor:
    """Mean over samples, each of the weight of its class."""
    own = None if weights is None else weights.to(logits)
    return F.cross_entropy(logits, classes, weight=own, label_smoothing=smoothing)


def class_weights(targets: Targets, classes: int) -> Tensor:
    """Weights with which all classes count alike, one on average over samples; classes without a
    sample have none."""
    numbers = targets if isinstance(targets, Tensor) else torch.cat(list(targets))
    counts = torch.bincount(numbers[numbers >= 0], minlength=classes)
    there = (counts > 0).sum()
    return torch.where(counts > 0, counts.sum() / (there * counts.clamp_min(1)), 0.0)


CLASSIFICATION = Classification()
"""Of classes without names."""
