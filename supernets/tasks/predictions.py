"""What a network answers about a split, sample by sample, beside the targets."""

from __future__ import annotations

import numpy as np

from supernets.metrics.metric import Array, Quality, Rows
from supernets.metrics.paired import Comparison
from supernets.tasks.task import Task


class Predictions:
    """Outputs and targets of samples, in the order they were added."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self._outputs: list[Array] = []
        self._targets: list[Array] = []

    def add(self, outputs: Array, targets: Array) -> None:
        """Add a batch: outputs `(B, ...)` of the network and its targets `(B, ...)`."""
        given, wanted = self.task.answers(outputs, targets)
        self._outputs += given
        self._targets += wanted

    @property
    def finite(self) -> bool:
        """Whether every output is a number."""
        return all(bool(np.isfinite(row).all()) for row in self._outputs)

    def score(self, metric: Quality) -> float:
        """The metric's value of all that was added."""
        return metric.score(*self.rows, self.task.label_names)

    def standard_error(self, metric: Quality) -> float:
        """The standard error of that value."""
        return metric.standard_error(*self.rows, self.task.label_names)

    def compared(self, other: Predictions, metric: Quality) -> Comparison:
        """The metric's value of these minus another model's about the same samples."""
        (ours, targets), (theirs, _) = self.rows, other.rows
        return Comparison.of(metric, ours, theirs, targets, self.task.label_names)

    def __len__(self) -> int:
        """Number of samples."""
        return len(self._targets)

    def __add__(self, other: Predictions) -> Predictions:
        """Those of both."""
        found = Predictions(self.task)
        found._outputs = self._outputs + other._outputs
        found._targets = self._targets + other._targets
        return found

    @property
    def rows(self) -> tuple[Rows, Rows]:
        """Outputs and targets, a row per sample each."""
        if not self.task.once_per_sample:
            return self._outputs, self._targets
        return np.stack(self._outputs), np.stack(self._targets)
