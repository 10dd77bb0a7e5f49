"""The fast evaluator: accuracy of a candidate's fake-quantized twin in torch, batched."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from nas.evaluation.candidate import Candidate
from nas.evaluation.candidate_builder import CandidateBuilder
from supernets.data.data import Batch, Split

BATCH = 128


@torch.inference_mode()
def torch_accuracy(
    builder: CandidateBuilder, candidate: Candidate, split: Split, batch_size: int
) -> float:
    """Share of a split's samples classified correctly, activations quantized in served batches.

    Runs on the GPU where torch has one. Raises ValueError if a logit is not finite.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    networks = {
        served: builder.imitation(candidate, served).to(device) for served in (batch_size, None)
    }
    correct = 0
    for batch, served in _portions(builder, candidate, split, batch_size):
        inputs = {name: tensor.to(device) for name, tensor in batch.inputs.items()}
        logits = networks[served](**inputs).cpu()
        if not torch.isfinite(logits).all():
            raise ValueError("logits are not finite")
        correct += int((logits.argmax(dim=1) == batch.labels).sum())
    return correct / len(split)


def _portions(
    builder: CandidateBuilder, candidate: Candidate, split: Split, batch_size: int
) -> Iterator[tuple[Batch, int | None]]:
    """Batches of whole served batches, then what is left over; texts as they are served.

    Padding would take part in a text's range, so texts are not put together.
    """
    texts = "attention_mask" in builder.supernet.dynamic_axes
    together = batch_size if texts else batch_size * max(1, BATCH // batch_size)
    for batch in split.batches(together):
        inputs = builder.adapted(candidate, batch.inputs)
        whole = 0 if texts else len(batch.labels) // batch_size * batch_size
        for rows, served in ((slice(0, whole), batch_size), (slice(whole, None), None)):
            labels = batch.labels[rows]
            if len(labels):
                yield Batch(_rows(inputs, rows), labels, batch.rows[rows]), served


def _rows(inputs: Mapping[str, Tensor], rows: slice) -> dict[str, Tensor]:
    return {name: tensor[rows] for name, tensor in inputs.items()}
