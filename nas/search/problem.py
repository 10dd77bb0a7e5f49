"""What a search strategy is given: the problem, and what has been measured so far."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from typing import Self

import numpy as np
from numpy.typing import NDArray

from nas.experiment.metrics import Metric, find_metric
from nas.experiment.objectives import Constraint, FloatArray, check_consistent, to_costs
from supernets.space.space import Genomes, SearchSpace

PerGenome = Callable[[Genomes], FloatArray]

_ENUMERABLE = 50_000  # genomes that are quickly listed and predicted
FEWEST = 8
"""Measured candidates below which a predictor is not worth fitting."""


def refuse_single(space: SearchSpace) -> None:
    """Raise ValueError for a space of one candidate."""
    if space.size < 2:
        raise ValueError(
            "space: every gene has a single choice, there is nothing to search; add choices"
        )


@dataclass(frozen=True)
class SearchProblem:
    """A search space, what is wanted in it, and what is known without measuring.

    constraints: absolute ones, see `Constraint.resolve`.
    exact: metric -> values `(n_samples,)` of genomes, for what is computed, not predicted (size).
    features: structural predictor features `(n_samples, n_features)`, for every metric but accuracy
        in place of the genes.
    cheap: MACs and bytes `(n_samples, n_columns)`, the baseline a predictor has to beat.
    """

    space: SearchSpace
    objectives: tuple[Metric, ...]
    constraints: tuple[Constraint, ...] = ()
    exact: Mapping[str, PerGenome] = field(default_factory=dict)
    features: PerGenome | None = None
    cheap: PerGenome | None = None

    def __post_init__(self) -> None:
        if not self.objectives:
            raise ValueError("objectives: the list is empty; name at least one metric")
        refuse_single(self.space)
        check_consistent(self.constraints)

    @cached_property
    def metrics(self) -> tuple[Metric, ...]:
        """Columns of `History.values`: the objectives, then metrics only constraints speak of."""
        names = [objective.name for objective in self.objectives]
        extra = dict.fromkeys(c.metric for c in self.constraints if c.metric not in names)
        return (*self.objectives, *(find_metric(name) for name in extra))

    def column(self, metric: str) -> int:
        """Position of a metric in `History.values`."""
        return [m.name for m in self.metrics].index(metric)

    def costs(self, values: FloatArray) -> FloatArray:
        """The objectives' columns as costs `(n_samples, n_objectives)`, smaller is better."""
        return to_costs(values[:, : len(self.objectives)], self.objectives)

    def violations(self, values: FloatArray) -> FloatArray:
        """How far each constraint is missed `(n_samples, n_constraints)`, 0 where it holds."""
        columns = [c.violation(values[:, self.column(c.metric)]) for c in self.constraints]
        return np.stack(columns, axis=1) if columns else np.zeros((len(values), 0))


@dataclass(frozen=True)
class History:
    """Measured candidates in order: canonical genomes, values (NaN where failed), two masks.

    disturbed: whether other work had a part in a metric that a clock tells.
    """

    genomes: Genomes
    values: FloatArray
    failed: NDArray[np.bool_]
    disturbed: NDArray[np.bool_]

    @classmethod
    def empty(cls, problem: SearchProblem) -> Self:
        """A history before the first measurement."""
        width, metrics = len(problem.space.genes), len(problem.metrics)
        none = np.zeros(0, bool)
        return cls(np.zeros((0, width), np.int64), np.zeros((0, metrics)), none, none)

    def append(
        self, genomes: Genomes, values: FloatArray, disturbed: NDArray[np.bool_] | None = None
    ) -> Self:
        """Add measured candidates; a row of `values` with a NaN is a failed one."""
        calm = np.zeros(len(genomes), bool)
        return type(self)(
            np.concatenate([self.genomes, genomes]),
            np.concatenate([self.values, values]),
            np.concatenate([self.failed, np.isnan(values).any(axis=1)]),
            np.concatenate([self.disturbed, calm if disturbed is None else disturbed]),
        )

    def __len__(self) -> int:
        return len(self.genomes)

    @property
    def good(self) -> Self:
        """Only what did not fail."""
        return self._only(~self.failed)

    @property
    def unranked(self) -> NDArray[np.bool_]:
        """What is not to rank by: failed, or disturbed where enough candidates are neither."""
        wrong = self.failed | self.disturbed
        return wrong if (~wrong).sum() >= FEWEST else self.failed

    @property
    def ranked(self) -> Self:
        """Only what is to rank by."""
        return self._only(~self.unranked)

    def of(self, metric: Metric) -> Self:
        """The candidates from whose values a metric can be learnt."""
        return self.ranked if metric.timed else self.good

    def _only(self, kept: NDArray[np.bool_]) -> Self:
        rows = self.genomes[kept], self.values[kept], self.failed[kept], self.disturbed[kept]
        return type(self)(*rows)


def new_rows(genomes: Genomes, known: Genomes) -> Genomes:
    """Distinct rows of `genomes` that are not in `known`, in order of first appearance."""
    seen = {row.tobytes() for row in np.ascontiguousarray(known, dtype=np.int64)}
    kept = []
    for position, row in enumerate(np.ascontiguousarray(genomes, dtype=np.int64)):
        if (key := row.tobytes()) not in seen:
            seen.add(key)
            kept.append(position)
    return genomes[kept]


def enumerate_space(space: SearchSpace) -> Genomes | None:
    """All canonical genomes, or None where they are too many to list."""
    if np.prod(space.n_choices.astype(float)) > _ENUMERABLE:
        return None
    grid = np.array(list(product(*(range(n) for n in space.n_choices))), dtype=np.int64)
    return np.unique(space.canonical(grid), axis=0)


def sample_new(
    space: SearchSpace, n: int, known: Genomes, rng: np.random.Generator, tries: int = 20
) -> Genomes:
    """Draw `n` distinct random genomes outside `known`; fewer only if the space holds no more."""
    found = space.sample(0, rng)
    for _ in range(tries):
        drawn = space.sample(2 * n, rng)
        found = np.concatenate([found, new_rows(drawn, np.concatenate([known, found]))])[:n]
        if len(found) == n:
            return found
    everything = enumerate_space(space)
    if everything is None:
        return found
    rest = new_rows(everything, np.concatenate([known, found]))
    return np.concatenate([found, rng.permutation(rest)[: n - len(found)]])
