"""A number per sample, or per pair of texts."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from supernets.settings import TrainSettings
from supernets.tasks.task import Loss, Targets, Task


class Regression(Task):
    """A number per sample: targets `(n,)` of a head with one output."""

    name = "regression"
    title = "a number a sample"
    metrics = ("spearman", "pearson", "mae")
    problem_type = "regression"
    answer_code = "print(logits[0, 0])\n"

    def loss(self, settings: TrainSettings, targets: Targets, outputs: int) -> Loss:
        """Mean squared error."""
        return _squared_error

    def distillation(self, student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        """Mean squared distance to the teacher; a temperature does not change it."""
        return F.mse_loss(student, teacher)


def _squared_error(outputs: Tensor, numbers: Tensor) -> Tensor:
    return F.mse_loss(outputs[:, 0], numbers)
