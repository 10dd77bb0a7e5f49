"""What a candidate answers: what asks it, and the one that runs the model itself."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain
from typing import Protocol

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from hardware.processors import processors
from hardware.session import Arrays, run
from nas.evaluation.built_candidate import BuiltCandidate
from nas.evaluation.candidate import Candidate
from nas.evaluation.candidate_builder import CandidateBuilder
from supernets.data.data import Split
from supernets.metrics.metric import Quality
from supernets.tasks.predictions import Predictions

PREPROCESSED = 64
"""Samples preprocessed together; they are still served in the target's batch size."""
MOST_AT_ONCE = 16
"""Served batches that a session is asked about at the same time: each takes memory of its own."""


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
    """Answers of the model itself, in ONNX Runtime.

    Several processors ask one session at the same time, each about served batches of its own, whose
    answers are to the bit those of one after the other.
    """

    builder: CandidateBuilder
    split: Split
    processors: int = field(default_factory=processors)

    def predictions(self, built: BuiltCandidate) -> Predictions:
        """See `ScoreMeter`."""
        return self.of_session(built.session, built.candidate)

    def of_session(
        self, session: onnxruntime.InferenceSession, candidate: Candidate
    ) -> Predictions:
        """The same of a model that is open already."""
        batch_size, found = self.builder.target.batch_size, Predictions(self.split.task)
        split = self.split.seen_by(dict(candidate.architecture))

        def answers(served: Sequence[Arrays]) -> list[NDArray[np.float32]]:
            return [run(session, batch)[0] for batch in served]

        with ThreadPoolExecutor(self._at_once) as pool:
            # Preprocessing many at once is what keeps a small model's evaluation short.
            for batch in split.batches(batch_size * -(-PREPROCESSED // batch_size)):
                arrays = self.builder.inputs(candidate, batch.inputs)
                rows = [slice(i, i + batch_size) for i in range(0, len(batch.labels), batch_size)]
                served = [_served(arrays, part) for part in rows]
                share = -(-len(served) // self._at_once)
                shares = [served[i : i + share] for i in range(0, len(served), share)]
                outputs = chain.from_iterable(pool.map(answers, shares))
                for part, output in zip(rows, outputs, strict=True):
                    found.add(output, batch.labels[part].numpy())
        return required_finite(found)

    @property
    def _at_once(self) -> int:
        """Not on a GPU, which one inference has to itself."""
        target = self.builder.target
        own = self.processors // target.threads if target.provider == "cpu" else 1
        return max(1, min(own, MOST_AT_ONCE))


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
