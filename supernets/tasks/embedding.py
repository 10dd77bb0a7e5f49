"""A vector per text, as near to others as the checkpoint's own vectors are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from supernets.settings import TrainSettings
from supernets.tasks.task import Loss, Reading, Targets, Task

POOLINGS: dict[str, Reading] = {"mean": "mean", "cls": "first"}
"""As sentence-transformers calls them."""
OF_ROWS = {"nothing": "cosine", "classes": "neighbour_accuracy", "scores": "sts_spearman"}
"""What is known of the texts -> what embeddings of them are scored by."""


class Embedding(Task):
    """A vector of unit length per text, pooled as the checkpoint's folder says.

    Nothing but the checkpoint's own vectors is learnt from. known: what the targets are: vectors to
    be near to (`nothing` is known of the texts), classes whose texts lie near each other, or scores
    of pairs, which are neighbouring rows.
    """

    name = "embedding"
    title = "a vector a text"
    metrics: tuple[str, ...] = tuple(OF_ROWS.values())
    reads: Reading = "mean"
    architecture = "Model"
    pipeline = "feature-extraction"
    outputs = ("sentence_embedding", "last_hidden_state")
    taught_alone = True
    answer_code = (
        "print(sentence_embedding[0])  # of unit length: a product of two is their cosine\n"
    )

    def __init__(
        self,
        label_names: Sequence[str] = (),
        pair: bool = False,
        pooling: str = "mean",
        known: str | None = None,
    ) -> None:
        super().__init__(label_names, pair)
        self.pooling, self.reads = pooling, POOLINGS[pooling]
        if known is not None:
            self.metrics = (OF_ROWS[known],)

    def config_json(self) -> Mapping[str, Any]:
        """Nothing: there are no labels."""
        return {}

    def loss(self, settings: TrainSettings, targets: Targets, outputs: int) -> Loss:
        """None: there is a teacher alone."""
        return _nothing

    def importance(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """A random projection: the vectors' distance to themselves has no gradient."""
        generator = torch.Generator().manual_seed(0)
        return (outputs * torch.randn(outputs.shape, generator=generator).to(outputs)).sum()

    def distillation(self, student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        """One minus the cosine to the teacher's vectors, and how far cosines among them differ."""
        own, taught = F.normalize(student, dim=-1), F.normalize(teacher, dim=-1)
        apart = 1 - (own * taught).sum(dim=-1).mean()
        return apart + F.mse_loss(own @ own.T, taught @ taught.T)


def _nothing(outputs: Tensor, targets: Tensor) -> Tensor:
    return outputs.sum() * 0.0


class UnitLength(nn.Module):
    """Vectors `(..., width)` at length one, in a head's place."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.in_features = self.out_features = width

    def forward(self, x: Tensor) -> Tensor:
        """Divide by the length."""
        return F.normalize(x, dim=-1)
