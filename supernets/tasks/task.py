"""What is asked of a network: what a task is to training, evaluation and export.

B batch, C outputs of the head
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from supernets.metrics.metric import Array
from supernets.settings import TrainSettings
from supernets.tasks.scale import Scale

Loss = Callable[[Tensor, Tensor], Tensor]
"""Mean loss of outputs and targets, a row each."""
Targets = Tensor | Sequence[Tensor]
"""A row per sample: one tensor, or tensors of different length."""
UNASKED = -100
"""In the place of a target, where nothing is asked."""
Reading = Literal["class", "tokens", "mean", "first"]
"""What the head is given: `class` what the family's own classifier reads, every token, the mean of
all tokens that are no padding, or the first token."""


class Task(ABC):
    """One task of one data set, whose labels have these names. pair: samples are pairs of texts.

    title: in words. metrics: names of those that fit, the default first. reads: what the head is
    given of a network. problem_type: in config.json. architecture: how transformers ends the class
    of a text network for it, pipeline: how it calls the task.
    answer_code: Python for the model card, from `logits` of one sample to the answer.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    metrics: tuple[str, ...]
    reads: Reading = "class"
    problem_type: ClassVar[str | None] = None
    architecture: ClassVar[str] = "ForSequenceClassification"
    pipeline: ClassVar[str] = "text-classification"
    answer_code: ClassVar[str]
    outputs: ClassVar[tuple[str, ...]] = ("logits",)
    """Of the exported graph; the first is what targets are about."""
    taught_alone: ClassVar[bool] = False
    """Whether there is nothing to learn but a teacher's answers."""
    clients: ClassVar[Mapping[str, str]] = {}
    """What else opens a model's folder, and how to get it -> Python for the model card."""
    once_per_sample: ClassVar[bool] = True
    """Whether a sample has one row of outputs, so that a teacher's can be kept in one tensor."""

    scale: Scale | None = None
    """In which the head counts, where it does not classify."""

    def __init__(self, label_names: Sequence[str] = (), pair: bool = False) -> None:
        self.label_names, self.pair = tuple(label_names), pair

    @classmethod
    def options_from(cls, targets: Array) -> dict[str, Any]:
        """What else a task is made with that the training targets tell."""
        return {}

    @abstractmethod
    def loss(self, settings: TrainSettings, targets: Targets, outputs: int) -> Loss:
        """The loss on targets. targets: of the whole training split, for weights of classes."""

    @abstractmethod
    def distillation(self, student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        """How far a student's outputs `(n, C)` are from a teacher's, the mean of samples."""

    def importance(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """A loss of a batch whose gradients tell what matters."""
        rows = self.rows
        loss = self.loss(TrainSettings(label_smoothing=0), (), outputs.shape[-1])
        return loss(rows(outputs, targets), rows(targets, targets))

    def rows(self, values: Tensor, targets: Tensor) -> Tensor:
        """The rows `(n, ...)` that are compared with targets, of a batch's `(B, ...)`."""
        return values

    def matched(self, targets: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
        """Targets of the same samples in two forms, such that the same is asked of both."""
        return targets, others

    def answers(self, outputs: Array, targets: Array) -> tuple[list[Array], list[Array]]:
        """Outputs and targets of each sample of a batch, as metrics take them."""
        return list(outputs), list(targets)

    def config_json(self) -> Mapping[str, Any]:
        """What config.json says of the task."""
        return {
            "id2label": {str(index): name for index, name in enumerate(self.label_names)},
            "label2id": {name: index for index, name in enumerate(self.label_names)},
            **({"problem_type": self.problem_type} if self.problem_type else {}),
        }

    def write_beside(self, folder: Path, width: int) -> None:  # noqa: B027 # most tasks: none
        """Write what `clients` read beside the rest of a model's folder. width: of outputs."""


def divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Kullback-Leibler divergence of the student from the teacher, times temperature squared."""
    found = torch.nn.functional.kl_div(
        torch.log_softmax(student / temperature, dim=-1),
        torch.log_softmax(teacher / temperature, dim=-1),
        reduction="batchmean",
        log_target=True,
    )
    return found * temperature**2
