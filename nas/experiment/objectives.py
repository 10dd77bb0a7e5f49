"""What is optimised, and the bounds that must hold."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from nas.experiment.metrics import Metric, find_metric

FloatArray = NDArray[np.float64]
Relation = Literal["<=", ">="]
Cost = Literal["latency_ms", "size_bytes"]
"""What a recommended model has least of."""


def to_costs(values: FloatArray, objectives: Sequence[Metric]) -> FloatArray:
    """Turn values `(n_samples, n_objectives)` into costs, all minimised. Its own inverse.

    The one place where a sign is flipped.
    """
    return np.asarray(values * np.array([objective.sign for objective in objectives]))


_NUMBER = r"\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+"
_AMOUNT = rf"(?:{_NUMBER})\s*(?:%|[A-Za-z]+)?"
_SHAPE = re.compile(
    rf"""\s*(?P<metric>\w+(?:[.\w]*:\w+)?)\s*(?P<relation><=|>=)\s*
    (?:(?P<amount>{_AMOUNT})
      |(?:(?P<factor>{_NUMBER})\s*\*\s*)?(?P<reference>[A-Za-z]\w*)
       (?:\s*(?P<sign>[+-])\s*(?P<offset>{_AMOUNT}))?)\s*""",
    re.VERBOSE,
)


@dataclass(frozen=True)
class Constraint:
    """`metric <= bound` or `metric >= bound`, where bound = factor * reference's value + offset."""

    metric: str
    relation: Relation
    offset: float
    reference: str | None = None
    factor: float = 1.0

    @property
    def bound(self) -> float:
        """The number to hold. Only an absolute (or resolved) constraint has one."""
        assert self.reference is None, f"{self} waits for its reference row"
        return self.offset

    @property
    def unit(self) -> str:
        """Unit of the bound."""
        return find_metric(self.metric).unit

    def resolve(self, references: Mapping[str, Mapping[str, float]]) -> Self:
        """Replace the reference row by its measured value: reference name -> metric -> value."""
        if self.reference is None:
            return self
        value = references[self.reference][self.metric]
        return replace(self, offset=self.factor * value + self.offset, reference=None, factor=1.0)

    def violation(self, values: FloatArray) -> FloatArray:
        """By how much `values` miss the bound, 0 where it holds; same shape as `values`."""
        excess = values - self.bound if self.relation == "<=" else self.bound - values
        return np.maximum(excess, 0.0)

    def __str__(self) -> str:
        number = f"{self.offset:.6g}" + (f" {self.unit}" if self.unit else "")
        if self.reference is None:
            return f"{self.metric} {self.relation} {number}"
        row = self.reference if self.factor == 1 else f"{self.factor:g} * {self.reference}"
        shift = "" if self.offset == 0 else f" {'+-'[self.offset < 0]} {number.lstrip('-')}"
        return f"{self.metric} {self.relation} {row}{shift}"


def parse_constraint(text: str, references: Iterable[str] = ("fp32", "fp16", "int8")) -> Constraint:
    """Read `accuracy >= int8 - 0.005`, `size_bytes <= 8 MB`, `latency_ms <= 0.8 * int8`.

    Raises ValueError for anything else, for an unknown metric, unit or reference row.
    """
    match = _SHAPE.fullmatch(text)
    if match is None:
        raise ValueError(
            f"constraint {text!r} cannot be read; write METRIC <= NUMBER [UNIT] or "
            "METRIC >= [FACTOR *] REFERENCE [+ or - NUMBER [UNIT]], "
            "such as 'size_bytes <= 8 MB' or 'accuracy >= int8 - 0.005'"
        )
    part = match.groupdict()
    try:
        objective = find_metric(part["metric"])
    except ValueError as error:
        raise ValueError(f"constraint {text!r}: {error}") from None
    relation: Relation = "<=" if part["relation"] == "<=" else ">="
    if part["amount"] is not None:
        return Constraint(objective.name, relation, _amount(part["amount"], objective, text))
    allowed = list(references)
    if part["reference"] not in allowed:
        raise ValueError(
            f"constraint {text!r}: {part['reference']!r} is no reference row; "
            f"allowed are {', '.join(allowed)}"
        )
    offset = _amount(part["offset"], objective, text) if part["offset"] else 0.0
    signed = -offset if part["sign"] == "-" else offset
    return Constraint(
        objective.name, relation, signed, part["reference"], float(part["factor"] or 1)
    )


def _amount(text: str, objective: Metric, constraint: str) -> float:
    match = re.fullmatch(rf"({_NUMBER})\s*(\S*)", text.strip())
    assert match is not None
    number, unit = match.groups()
    scales = objective.scales
    if unit and unit not in scales:
        raise ValueError(
            f"constraint {constraint!r}: {unit!r} is no unit of {objective.name}; "
            f"allowed are {', '.join(scales)}"
        )
    return float(number) * (scales[unit] if unit else 1.0)


def check_consistent(constraints: Sequence[Constraint]) -> None:
    """Raise ValueError if two constraints on the same footing leave no value between them."""
    for lower in constraints:
        for upper in constraints:
            if (lower.metric, lower.relation, upper.relation) != (upper.metric, ">=", "<="):
                continue
            if lower.reference != upper.reference or lower.factor != upper.factor:
                continue
            if lower.offset > upper.offset:
                raise ValueError(
                    f"constraints contradict each other: '{lower}' and '{upper}'; drop one"
                )
