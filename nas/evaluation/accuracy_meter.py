"""Accuracy of a candidate: what measures it, and the one that runs the model itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from hardware.session import Arrays, predict
from nas.evaluation.built_candidate import BuiltCandidate
from nas.evaluation.candidate import Candidate
from nas.evaluation.candidate_builder import CandidateBuilder
from supernets.data.data import Split

PREPROCESSED = 64
"""Samples preprocessed together; they are still served in the target's batch size."""


class EvaluationError(ValueError):
    """A candidate that cannot be evaluated; the reason is recorded and the search goes on."""


class AccuracyMeter(Protocol):
    """Measures the accuracy of candidates of one run."""

    def accuracy(self, built: BuiltCandidate) -> float:
        """Share of samples that are classified correctly, served in the target's batches.

        Raises EvaluationError if a logit is not a number.
        """


@dataclass(frozen=True)
class RuntimeAccuracy:
    """Accuracy of the model itself, in ONNX Runtime."""

    builder: CandidateBuilder
    split: Split

    def accuracy(self, built: BuiltCandidate) -> float:
        """See `AccuracyMeter`."""
        return self.of_session(built.session, built.candidate)

    def of_session(self, session: onnxruntime.InferenceSession, candidate: Candidate) -> float:
        """The same of a model that is open already."""
        labels: list[NDArray[np.int64]] = []
        batch_size = self.builder.target.batch_size
        split = self.split.resized_to(candidate.image_size)

        def batches() -> Iterator[Arrays]:
            # Preprocessing many at once is what keeps a small model's evaluation short.
            for batch in split.batches(batch_size * -(-PREPROCESSED // batch_size)):
                labels.append(batch.labels.numpy())
                arrays = self.builder.inputs(candidate, batch.inputs)
                for start in range(0, len(batch.labels), batch_size):
                    yield _served(arrays, slice(start, start + batch_size))

        logits = predict(session, batches())
        if not np.isfinite(logits).all():
            raise EvaluationError("logits are not finite")
        return float((logits.argmax(axis=1) == np.concatenate(labels)).mean())


def _served(arrays: Arrays, rows: slice) -> Arrays:
    """Some rows of a batch; texts without the columns that only pad them."""
    part = {name: array[rows] for name, array in arrays.items()}
    if "attention_mask" in part:
        length = int(part["attention_mask"].sum(axis=1).max())
        part = {name: array[:, :length] for name, array in part.items()}
    return part
