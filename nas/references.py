"""The rows every model is compared with: the largest network in FP32 and fully INT8."""

from __future__ import annotations

from collections.abc import Sequence

from hardware.precision import Precision
from nas.candidate import Candidate
from nas.ledger import Evaluation
from nas.workbench import Workbench

REFERENCES = {"fp32": Precision.FP32, "int8": Precision.INT8}


def reference_candidates(workbench: Workbench) -> dict[str, Candidate]:
    """Reference name -> the largest network of the space in one precision throughout."""
    largest = workbench.space.largest()
    return {name: workbench.uniform(largest, precision) for name, precision in REFERENCES.items()}


def measured_references(evaluations: Sequence[Evaluation]) -> dict[str, Evaluation]:
    """Reference name -> its evaluation. Raises ValueError before both are measured."""
    rows = [e for e in evaluations if e.role == "reference" and e.failure is None]
    found = {next(iter(row.candidate.policy.values())).value: row for row in rows}
    missing = [name for name in REFERENCES if name not in found]
    if missing:
        raise ValueError(
            f"references {', '.join(missing)} are not measured yet; `simqnas run` measures them "
            "right after tuning"
        )
    return found
