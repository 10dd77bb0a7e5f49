"""What a candidate answers: what asks it, and the one that runs the model itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import onnxruntime

from hardware.session import Arrays, run
from nas.evaluation.built_candidate import BuiltCandidate
from nas.evaluation.candidate import Candidate
from nas.evaluation.candidate_builder import CandidateBuilder
from supernets.data.data import Split
from supernets.metrics.metric import Quality
from supernets.tasks.predictions import Predictions

PREPROCESSED = 64
"""Samples preprocessed together; they are still served in the target's batch size."""


class EvaluationError(ValueError):
    """A candidate that cannot be evaluated; the reason is recorded and the search goes on."""


class ScoreMeter(Protocol):
    """Asks candidates of one run about a split."""

    def predictions(self, built: BuiltCandidate) -> Predictions:
        """What a candidate answers about every sample, served in the target's batches.

        Raises EvaluationError if an output is not a number.
        """


def scores(found: Predictions, metrics: Sequence[Quality]) -> dict[str, float]:
    """Metric's name -> its value of these predictions."""
    return {metric.name: found.score(metric) for metric in metrics}


@dataclass(frozen=True)
class RuntimeScore:
    """Answers of the model itself, in ONNX Runtime."""

    builder: CandidateBuilder
    split: Split

    def predictions(self, built: BuiltCandidate) -> Predictions:
        """See `ScoreMeter`."""
        return self.of_session(built.session, built.candidate)

    def of_session(
        self, session: onnxruntime.InferenceSession, candidate: Candidate
    ) -> Predictions:
        """The same of a model that is open already."""
        batch_size, found = self.builder.target.batch_size, Predictions(self.split.task)
        split = self.split.seen_by(dict(candidate.architecture))
        # Preprocessing many at once is what keeps a small model's evaluation short.
        for batch in split.batches(batch_size * -(-PREPROCESSED // batch_size)):
            arrays, labels = self.builder.inputs(candidate, batch.inputs), batch.labels.numpy()
            for start in range(0, len(labels), batch_size):
                rows = slice(start, start + batch_size)
                found.add(run(session, _served(arrays, rows))[0], labels[rows])
        return required_finite(found)


def required_finite(found: Predictions) -> Predictions:
    """The predictions. Raises EvaluationError if an output is not a number."""
    if not found.finite:
        raise EvaluationError("logits are not finite")
    return found


def _served(arrays: Arrays, rows: slice) -> Arrays:
    """Some rows of a batch; texts without the columns that only pad them."""
    part = {name: array[rows] for name, array in arrays.items()}
    mask = part.get("attention_mask")
    if mask is None:
        return part
    length = int(mask.sum(axis=1).max())
    return {name: a[:, :length] if a.shape == mask.shape else a for name, a in part.items()}
