"""Which measured candidates are shipped, and which one is recommended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from nas.delivery.results import Front, ValidatedModel, Versus
from nas.evaluation.baselines import NotMeasuredError, low_reference, measured_references
from nas.evaluation.record import Evaluation
from nas.experiment.objectives import Constraint, FloatArray, to_costs
from nas.experiment.schema import Experiment
from nas.search.pareto import spread


@dataclass(frozen=True)
class Pick:
    """A candidate to ship, and the name of its folder."""

    name: str
    evaluation: Evaluation


def pick_models(evaluations: Sequence[Evaluation], experiment: Experiment) -> list[Pick]:
    """References first, then the front candidates to ship, fastest first.

    At most `export.models` that keep the constraints, spread over the front; the fastest within
    the accepted accuracy drop is always among them. Candidates whose latency was disturbed come
    last. Raises ValueError before the references are measured.
    """
    references = measured_references(evaluations)
    settings, bar = experiment.export, _accuracy_bar(references, experiment)
    kept = _within_constraints(searched(evaluations), experiment, references)
    picked = _spread(_calm(kept), experiment)
    others = [e for e in _spread(kept, experiment) if e not in picked]
    picked += others[: settings.models - len(picked)]
    fastest = _fastest(kept, bar)
    if fastest is not None and fastest not in picked:
        picked[settings.models - 1 :] = [fastest]
    picked.sort(key=lambda e: e.metrics["latency_ms"])
    return [
        *(Pick(name, evaluation) for name, evaluation in references.items()),
        *(Pick(evaluation.candidate.key, evaluation) for evaluation in picked),
    ]


def best_so_far(evaluations: Sequence[Evaluation], experiment: Experiment) -> str:
    """What the search has reached, by the rules by which models are picked and recommended.

    Empty before the references are measured.
    """
    try:
        references = measured_references(evaluations)
    except NotMeasuredError:
        return ""
    kept = _within_constraints(searched(evaluations), experiment, references)
    fastest = _fastest(kept, _accuracy_bar(references, experiment))
    if fastest is None:
        return "best: none yet within the constraints and the accepted accuracy drop"
    low = low_reference(references)
    ours, theirs = fastest.metrics, references[low].metrics
    return (
        f"best: {ours['accuracy']:.4f}, {ours['latency_ms']:.3f} ms "
        f"({theirs['latency_ms'] / ours['latency_ms']:.2f}x as fast as {low}), "
        f"{ours['size_bytes'] / 1000:.0f} kB"
    )


def recommend(models: Sequence[ValidatedModel], accuracy_drop: float) -> str:
    """Name of the fastest model whose validation accuracy the accepted drop allows.

    A latency that was disturbed is believed only where all of them were. A model that a runtime
    answers otherwise for is recommended only where that is so of all.
    """
    names = [model.name for model in models if model.role == "reference"]
    low = next(model for model in models if model.name == low_reference(names))
    good = [m for m in models if m.validation_accuracy >= low.validation_accuracy - accuracy_drop]

    def rank(model: ValidatedModel) -> tuple[bool, bool, float]:
        return model.differs, model.latency_disturbed, model.latency_ms[0]

    return min(good, key=rank).name


def _fastest(evaluations: Sequence[Evaluation], bar: float) -> Evaluation | None:
    good = [e for e in evaluations if e.metrics["accuracy"] >= bar]
    return min(good, key=lambda e: (e.disturbed, e.metrics["latency_ms"]), default=None)


def _calm(evaluations: Sequence[Evaluation]) -> Sequence[Evaluation]:
    """Those whose latency was not disturbed; all where every one was."""
    return [e for e in evaluations if not e.disturbed] or evaluations


def _spread(evaluations: Sequence[Evaluation], experiment: Experiment) -> list[Evaluation]:
    """Up to `export.models` of the front, spread over it."""
    if not evaluations:
        return []
    positions = spread(costs_of(evaluations, experiment), experiment.export.models)
    return [evaluations[i] for i in positions]


def _accuracy_bar(references: Mapping[str, Evaluation], experiment: Experiment) -> float:
    low = references[low_reference(references)]
    return low.metrics["accuracy"] - experiment.export.accuracy_drop


def _within_constraints(
    evaluations: Sequence[Evaluation],
    experiment: Experiment,
    references: Mapping[str, Evaluation],
) -> list[Evaluation]:
    constraints = resolved_constraints(experiment, references)
    return [
        e
        for e in evaluations
        if not any(c.violation(np.array(e.metrics[c.metric])) > 0 for c in constraints)
    ]


def resolved_constraints(
    experiment: Experiment, references: Mapping[str, Evaluation]
) -> list[Constraint]:
    """The experiment's constraints, what refers to a reference replaced by what that measured."""
    metrics = {name: reference.metrics for name, reference in references.items()}
    return [c.resolve(metrics) for c in experiment.parsed_constraints()]


def searched(evaluations: Sequence[Evaluation]) -> list[Evaluation]:
    """Those that a search asked for and that did not fail."""
    return [e for e in evaluations if e.role == "search" and e.failure is None]


def costs_of(evaluations: Sequence[Evaluation], experiment: Experiment) -> FloatArray:
    """What was measured of the experiment's objectives, as costs `(n, n_objectives)`."""
    objectives = experiment.parsed_objectives()
    rows = [[e.metrics[objective.name] for objective in objectives] for e in evaluations]
    return to_costs(np.array(rows), objectives)


def provisional_front(evaluations: Sequence[Evaluation], experiment: Experiment) -> Front:
    """The best so far by what the search has measured; nothing is exported, no test score."""
    picks = pick_models(evaluations, experiment)
    references = [pick for pick in picks if pick.evaluation.role == "reference"]
    models = [
        replace(unscored(pick), versus={r.name: _by_search(pick, r) for r in references})
        for pick in picks
    ]
    return Front(
        models=tuple(models),
        recommended=recommend(models, experiment.export.accuracy_drop),
        evaluations=len(evaluations),
        conditions={"target": experiment.target.describe()},
    )


def unscored(pick: Pick) -> ValidatedModel:
    evaluation = pick.evaluation
    latency = evaluation.details.latency
    assert latency is not None, "it was measured"
    return ValidatedModel(
        name=pick.name,
        role="reference" if evaluation.role == "reference" else "front",
        candidate=evaluation.candidate,
        validation_accuracy=evaluation.metrics["accuracy"],
        test_accuracy=None,
        latency_ms=(latency.median_ms, latency.q1_ms, latency.q3_ms),
        size_bytes=int(evaluation.metrics["size_bytes"]),
        coverage=evaluation.details.coverage,
        versus={},
        latency_disturbed=evaluation.disturbed,
    )


def _by_search(pick: Pick, reference: Pick) -> Versus:
    ours, theirs = pick.evaluation.metrics, reference.evaluation.metrics
    faster = theirs["latency_ms"] / ours["latency_ms"]
    return Versus(
        accuracy_difference=ours["accuracy"] - theirs["accuracy"],
        latency_ratio=faster,
        latency_ratio_low=np.nan,
        latency_ratio_high=np.nan,
        latency_disturbed=pick.evaluation.disturbed or reference.evaluation.disturbed,
        size_ratio=theirs["size_bytes"] / ours["size_bytes"],
    )
