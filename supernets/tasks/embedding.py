"""A vector per text, as near to others as the checkpoint's own vectors are."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from supernets.settings import TrainSettings
from supernets.tasks.task import Loss, Reading, Targets, Task

POOLINGS: dict[str, Reading] = {"mean": "mean", "cls": "first"}
"""As sentence-transformers calls them."""
MODULES_FILE = "modules.json"
POOLING = "1_Pooling"
SENTENCE_TRANSFORMERS = """\
from sentence_transformers import SentenceTransformer

vectors = SentenceTransformer(".", backend="onnx").encode(["the sentence to look at"])
"""
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
    clients: ClassVar = {
        "sentence-transformers (`pip install sentence-transformers[onnx]`)": SENTENCE_TRANSFORMERS
    }
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

    def write_beside(self, folder: Path, width: int) -> None:
        """Write what sentence-transformers reads beside a network's and a tokenizer's files."""
        tokenizer = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        write_embedder(folder, self.pooling, width, tokenizer["model_max_length"])


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


def write_embedder(folder: Path, pooling: str, width: int, max_length: int) -> None:
    """Write how a sentence-transformers folder pools a network's tokens."""
    modules = [("", "Transformer"), (POOLING, "Pooling"), ("2_Normalize", "Normalize")]
    listed = [
        {
            "idx": number,
            "name": str(number),
            "path": path,
            "type": f"sentence_transformers.models.{kind}",
        }
        for number, (path, kind) in enumerate(modules)
    ]
    for path, _ in modules:
        (folder / path).mkdir(exist_ok=True)
    _write(folder / MODULES_FILE, listed)
    of_pooling = {
        "word_embedding_dimension": width,
        "pooling_mode_cls_token": pooling == "cls",
        "pooling_mode_mean_tokens": pooling == "mean",
        "pooling_mode_max_tokens": False,
        "pooling_mode_mean_sqrt_len_tokens": False,
    }
    _write(folder / POOLING / "config.json", of_pooling)
    _write(folder / "sentence_bert_config.json", {"max_seq_length": max_length})


def _write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
