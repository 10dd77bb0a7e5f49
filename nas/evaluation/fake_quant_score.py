"""The fast meter: a candidate's fake-quantized twin in torch, batched."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from nas.evaluation.built_candidate import BuiltCandidate
from nas.evaluation.candidate import Candidate
from nas.evaluation.candidate_builder import CandidateBuilder
from nas.evaluation.score_meter import required_finite
from supernets.data.data import Batch, Split
from supernets.tasks.predictions import Predictions

BATCH = 128


@dataclass(frozen=True)
class FakeQuantScore:
    """Answers in torch, activations quantized in served batches; on the GPU where it has one."""

    builder: CandidateBuilder
    split: Split

    @torch.inference_mode()
    def predictions(self, built: BuiltCandidate) -> Predictions:
        """See `ScoreMeter`."""
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        networks = {
            served: self.builder.imitation(built.candidate, served).to(device)
            for served in (self.builder.target.batch_size, None)
        }
        found = Predictions(self.split.task)
        for batch, served in self._portions(built.candidate):
            inputs = {name: tensor.to(device) for name, tensor in batch.inputs.items()}
            outputs = networks[served](**inputs).cpu()
            found.add(outputs.numpy(), batch.labels.numpy())
        return required_finite(found)

    def _portions(self, candidate: Candidate) -> Iterator[tuple[Batch, int | None]]:
        """Batches of whole served batches, then what is left over; texts as they are served.

        Padding would take part in a text's range, so texts are not put together.
        """
        batch_size = self.builder.target.batch_size
        texts = "attention_mask" in self.builder.supernet.dynamic_axes
        together = batch_size if texts else batch_size * max(1, BATCH // batch_size)
        for batch in self.split.seen_by(dict(candidate.architecture)).batches(together):
            inputs = self.builder.adapted(candidate, batch.inputs)
            whole = 0 if texts else len(batch.labels) // batch_size * batch_size
            for rows, served in ((slice(0, whole), batch_size), (slice(whole, None), None)):
                labels = batch.labels[rows]
                if len(labels):
                    yield Batch(_rows(inputs, rows), labels, batch.rows[rows]), served


def _rows(inputs: Mapping[str, Tensor], rows: slice) -> dict[str, Tensor]:
    return {name: tensor[rows] for name, tensor in inputs.items()}
