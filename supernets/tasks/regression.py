"""A number per sample, or per pair of texts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from torch import Tensor
from torch.nn import functional as F

from supernets.metrics.metric import Array
from supernets.settings import TrainSettings
from supernets.tasks.scale import UNSCALED, Scale
from supernets.tasks.task import Loss, Targets, Task


class Regression(Task):
    """A number per sample: targets `(n,)` of a head with one output, which counts in a scale."""

    name = "regression"
    title = "a number a sample"
    metrics = ("spearman", "pearson", "mae")
    problem_type = "regression"
    answer_code = "print(logits[0, 0])\n"

    def __init__(
        self, label_names: Sequence[str] = (), pair: bool = False, scale: Scale = UNSCALED
    ) -> None:
        super().__init__(label_names, pair)
        self.scale: Scale = scale

    @classmethod
    def options_from(cls, targets: Array) -> dict[str, Any]:
        """The scale: mean and standard deviation of the training targets."""
        center, unit = float(targets.mean()), float(targets.std())
        alike = unit <= np.finfo(np.float32).eps * abs(center)
        return {"scale": Scale(center, 1.0 if alike else unit)}

    def loss(self, settings: TrainSettings, targets: Targets, outputs: int) -> Loss:
        """Mean squared error, in the units of the scale."""
        return partial(_squared_error, self.scale)

    def distillation(self, student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        """Mean squared distance to the teacher; a temperature does not change it."""
        return _squared_error(self.scale, student, teacher[:, 0])


def _squared_error(scale: Scale, outputs: Tensor, numbers: Tensor) -> Tensor:
    return F.mse_loss(scale.counted(outputs[:, 0]), scale.counted(numbers))
