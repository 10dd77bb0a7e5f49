"""The rows every model is compared with: the largest network in FP32 and fully INT8."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from nas.evaluation.candidate import Candidate
from nas.evaluation.record import Evaluation

if TYPE_CHECKING:  # torch takes seconds to import, and nothing here needs it
    from nas.evaluation.candidate_builder import CandidateBuilder

PLAIN = "fp32"
"""The reference no precision was taken from."""


class NotMeasuredError(ValueError):
    """There is nothing yet to compare with."""


def reference_candidates(builder: CandidateBuilder) -> dict[str, Candidate]:
    """Reference name -> the largest network of the space in one precision throughout."""
    largest = builder.space.largest()
    return {row.name: builder.uniform(largest, row) for row in builder.target.references}


def measured_references(evaluations: Sequence[Evaluation]) -> dict[str, Evaluation]:
    """Reference name -> its evaluation, FP32 first. Raises NotMeasuredError before both are."""
    rows = [e for e in evaluations if e.role == "reference" and e.failure is None]
    found = {next(iter(row.candidate.policy.values())).name: row for row in rows}
    if len(found) < 2:
        raise NotMeasuredError(
            "the two references are not measured yet; `simqnas run` measures them after tuning"
        )
    return dict(sorted(found.items(), key=lambda item: item[0] != PLAIN))


def low_reference(names: Iterable[str]) -> str:
    """The reference in low precision among the names of both."""
    return next(name for name in names if name != PLAIN)
