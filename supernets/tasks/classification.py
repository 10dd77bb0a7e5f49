"""One class per sample."""

from __future__ import annotations

from functools import partial

from torch import Tensor
from torch.nn import functional as F

from supernets.settings import TrainSettings
from supernets.tasks.task import Loss, Targets, Task, divergence


class Classification(Task):
    """One class per sample: targets are class numbers `(n,)`."""

    name = "classification"
    title = "one class a row"
    metrics = ("accuracy",)

    def loss(self, settings: TrainSettings, targets: Targets, outputs: int) -> Loss:
        """Cross-entropy, smoothed as the settings say."""
        return partial(F.cross_entropy, label_smoothing=settings.label_smoothing)

    def distillation(self, student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        """Kullback-Leibler divergence of the student from the teacher."""
        return divergence(student, teacher, temperature)


CLASSIFICATION = Classification()
"""Of classes without names."""
