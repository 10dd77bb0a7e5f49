"""Constraints that nothing in the space can keep, as far as the predictors can tell."""

from __future__ import annotations

import numpy as np

from nas.experiment.objectives import Constraint, FloatArray
from nas.search.initial_design import covering_start
from nas.search.problem import FEWEST, History, SearchProblem, enumerate_space
from nas.search.pymoo_operators import evolve
from nas.search.surrogate import Surrogate
from supernets.space.space import Genomes

BENEFIT_OF_DOUBT = 3.0  # standard deviations a prediction may be wrong in the constraint's favour
_POPULATION, _GENERATIONS = 100, 40


class UnreachableError(ValueError):
    """No candidate of the space is likely to keep the constraints."""


def refuse_unreachable(problem: SearchProblem, history: History, seed: int) -> None:
    """Raise UnreachableError if even generous predictions break a constraint everywhere.

    Says nothing while a measured candidate keeps all constraints, while fewer than 8 candidates
    are measured, or where the predictor of a constraint's metric is no better than its baselines.
    """
    good = history.ranked
    kept = (problem.violations(good.values) == 0).all(axis=1)
    if not problem.constraints or kept.any() or len(good) < FEWEST:
        return
    surrogate = Surrogate.fit(problem, history, seed)
    judged = [c for c in problem.constraints if _is_judged(surrogate, c)]
    if not judged:
        return
    for group in [[c] for c in judged] + [judged]:
        values, missed = _closest(surrogate, group, good, seed)
        if missed.any():
            raise UnreachableError(_message(surrogate, group, values, len(good)))


def _is_judged(surrogate: Surrogate, constraint: Constraint) -> bool:
    predictor = surrogate.predictors.get(constraint.metric)
    return predictor is None or predictor.judgement.beats_baselines


def _closest(
    surrogate: Surrogate, constraints: list[Constraint], good: History, seed: int
) -> tuple[FloatArray, FloatArray]:
    """Expected values of the candidate that misses least, and what it misses by if in doubt."""
    problem = surrogate.problem
    columns = [problem.column(c.metric) for c in constraints]
    signs = np.array([1.0 if c.relation == ">=" else -1.0 for c in constraints])
    scales = np.maximum(good.values[:, columns].std(axis=0), 1e-12)

    def missed(genomes: Genomes) -> FloatArray:
        generous = surrogate.values(genomes)[:, columns]
        generous = generous + signs * BENEFIT_OF_DOUBT * surrogate.stds(genomes)[:, columns]
        missed_by = [c.violation(generous[:, k]) for k, c in enumerate(constraints)]
        return np.asarray(np.stack(missed_by, axis=1) / scales)

    def score(genomes: Genomes) -> tuple[FloatArray, FloatArray]:
        return missed(genomes).sum(axis=1, keepdims=True), np.zeros((len(genomes), 0))

    pool = enumerate_space(problem.space)
    if pool is None:
        rng = np.random.default_rng(seed)
        start = np.vstack([good.genomes, covering_start(problem.space, _POPULATION, rng)])
        start = np.unique(start, axis=0)
        order = np.argsort(score(start)[0][:, 0], kind="stable")
        pool, _ = evolve(problem.space, score, start[order[:_POPULATION]], _GENERATIONS, seed)
    distances = missed(pool)
    best = int(np.argmin(distances.sum(axis=1)))
    return surrogate.values(pool[best : best + 1])[0], distances[best]


def _message(
    surrogate: Surrogate, constraints: list[Constraint], values: FloatArray, n: int
) -> str:
    wanted = " and ".join(f"'{c}'" for c in constraints)
    reached = []
    for metric in dict.fromkeys(c.metric for c in constraints):
        number = f"{values[surrogate.problem.column(metric)]:.6g}"
        how = "exactly" if metric in surrogate.problem.exact else "predicted"
        unit = next(c.unit for c in constraints if c.metric == metric)
        reached.append(f"{metric} {number} {unit}".rstrip() + f" ({how})")
    return (
        f"constraints: {wanted} cannot be kept{' together' if len(constraints) > 1 else ''}; after "
        f"{n} measured candidates the closest in the space is {', '.join(reached)}; "
        "relax the constraint, or add choices to space"
    )
