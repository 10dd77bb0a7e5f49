"""Any number of labels per sample."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from supernets.settings import TrainSettings
from supernets.tasks.task import Loss, Targets, Task


class MultiLabel(Task):
    """Any number of labels per sample: targets are marks `(n, labels)`, each asked alone."""

    name = "multi-label"
    title = "any number of labels a sample"
    metrics = ("f1", "f1_micro", "map", "auc")
    problem_type = "multi_label_classification"
    answer_code = """\
names = json.load(open("config.json"))["id2label"]
print([names[str(label)] for label in np.flatnonzero(logits[0] > 0)])
"""

    def loss(self, settings: TrainSettings, targets: Targets, outputs: int) -> Loss:
        """Binary cross-entropy; balanced, the marks of rare labels weigh more."""
        weights = None
        if settings.class_weights == "balanced":
            assert isinstance(targets, Tensor)
            having = targets.sum(dim=0)
            weights = ((len(targets) - having) / having.clamp_min(1)).clamp_min(1e-3)
        return partial(_binary_cross_entropy, weights, settings.label_smoothing)

    def distillation(self, student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        """Divergence of the student from the teacher, the mean over labels."""
        wanted = torch.sigmoid(teacher / temperature)
        given = F.binary_cross_entropy_with_logits(student / temperature, wanted)
        least = F.binary_cross_entropy_with_logits(teacher / temperature, wanted)
        return (given - least) * temperature**2


def _binary_cross_entropy(
    weights: Tensor | None, smoothing: float, logits: Tensor, marks: Tensor
) -> Tensor:
    wanted = marks * (1 - smoothing) + smoothing / 2
    own = None if weights is None else weights.to(logits)
    return F.binary_cross_entropy_with_logits(logits, wanted, pos_weight=own)
