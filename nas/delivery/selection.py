"""Which measured candidates are shipped, and which one is recommended."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from nas.delivery.best import best_delivered, best_measured, most_promising
from nas.delivery.promise import allowed_drops, cost_of
from nas.delivery.results import Front, ValidatedModel, Versus
from nas.evaluation.baselines import NotMeasuredError, low_reference, measured_references
from nas.evaluation.record import Evaluation, believed, searched
from nas.experiment.objectives import Constraint, Cost, FloatArray, to_costs
from nas.experiment.schema import Experiment
from nas.search.pareto import spread
from nas.training.polish_forecast import Foretold
from supernets.metrics.classes import ACCURACY
from supernets.metrics.metric import Quality


@dataclass(frozen=True)
class Pick:
    """A candidate to ship, and the name of its folder."""

    name: str
    evaluation: Evaluation


def wanted(
    evaluations: Sequence[Evaluation],
    experiment: Experiment,
    foretold: Mapping[str, Foretold] | None = None,
    chosen: Collection[str] = (),
) -> list[Evaluation]:
    """Candidates to ship: the best for every need, in their order, then others of the front.

    At most `export.models` that keep the constraints. Candidates whose latency was disturbed come
    last. foretold: candidate's key -> the score that is expected of it in place of what was
    measured. chosen: keys of those that are shipped already, whose needs come later. Raises
    ValueError before the references are measured.
    """
    foretold = foretold or {}
    references, most = measured_references(evaluations), experiment.export.models
    measured = {e.candidate.key: e for e in evaluations}
    scores = {key: found.score for key, found in foretold.items()}
    judged = believed(searched(evaluations), scores, experiment.quality.name)
    kept = within_constraints(judged, experiment, references)
    found = _for_needs(kept, references, experiment, foretold, chosen)[:most]
    for others in (_spread(_calm(kept), experiment), _spread(kept, experiment)):
        found += [e for e in others if e not in found][: most - len(found)]
    return [measured[e.candidate.key] for e in found]


def pick_models(evaluations: Sequence[Evaluation], chosen: Sequence[Evaluation]) -> list[Pick]:
    """References first, then the chosen candidates, fastest first."""
    references = measured_references(evaluations)
    ordered = sorted(chosen, key=lambda e: e.metrics["latency_ms"])
    return [
        *(Pick(name, evaluation) for name, evaluation in references.items()),
        *(Pick(e.candidate.key, e) for e in ordered),
    ]


def _for_needs(
    evaluations: Sequence[Evaluation],
    references: Mapping[str, Evaluation],
    experiment: Experiment,
    foretold: Mapping[str, Foretold],
    chosen: Collection[str],
) -> list[Evaluation]:
    """The best for every need, none twice: for those that nothing chosen meets in their order, then
    for the others, beginning behind as many as were chosen. Where nothing meets the first need, the
    most accurate is the best for it.

    Last comes the best without any drop, unless a chosen one is so: what lost a little may be
    refused at no loss by the samples that were kept back.
    """
    metric, low = experiment.quality, references[low_reference(references)]
    bar = low.metrics[metric.name]
    drops = allowed_drops(metric, bar, experiment.export.accuracy_drop)
    doubts = {key: found.doubt for key, found in foretold.items()}

    def best(good: Sequence[Evaluation], drop: float, cost: Cost) -> Evaluation:
        """Of those good enough, by what is expected to be saved over the low reference and what is
        chosen for it already."""
        there = [low, *(e for e in good if e.candidate.key in chosen)]
        margins = [drop - metric.worse_by(e.metrics[metric.name], bar) for e in good]
        least = min(e.metrics[cost] for e in there)
        return most_promising(good, margins, doubts, cost, least) or best_measured(good, cost)

    unmet, met = list[Evaluation](), list[Evaluation]()
    for need, drop in drops.items():
        good = _kept_by(evaluations, metric, bar, drop)
        if need == "no_loss" and not good:
            good = _most_accurate(evaluations, metric)
        if good:
            found = best(good, drop, cost_of(need, experiment.cost))
            (met if any(e.candidate.key in chosen for e in good) else unmet).append(found)
    safe = _kept_by(evaluations, metric, bar, 0.0)
    safer = not any(e.candidate.key in chosen for e in safe)
    spare = [best(safe, 0.0, experiment.cost)] if safe and safer else []
    picked: list[Evaluation] = []
    for found in (*unmet, *met[len(chosen) :], *met[: len(chosen)], *spare):
        picked += [found] if found not in picked else []
    return picked


def _kept_by(
    evaluations: Sequence[Evaluation], metric: Quality, bar: float, drop: float
) -> list[Evaluation]:
    """Those that are at most so much worse; foretold ones are so likelier than not."""
    return [e for e in evaluations if _keeps(metric, e.metrics[metric.name], bar, drop)]


def _most_accurate(evaluations: Sequence[Evaluation], metric: Quality) -> list[Evaluation]:
    """Those with the best score; none of none."""
    scores = [metric.sign * e.metrics[metric.name] for e in evaluations]
    return [e for e, score in zip(evaluations, scores, strict=True) if score == max(scores)]


def best_so_far(evaluations: Sequence[Evaluation], experiment: Experiment) -> str:
    """What the search has reached, by the rules by which models are picked and recommended.

    Empty before the references are measured.
    """
    try:
        references = measured_references(evaluations)
    except NotMeasuredError:
        return ""
    kept = within_constraints(searched(evaluations), experiment, references)
    best, metric = _best(kept, references, experiment), experiment.quality
    if best is None:
        return f"best: none yet within the constraints and the accepted drop in {metric.title}"
    low = low_reference(references)
    ours, theirs = best.metrics, references[low].metrics
    return (
        f"best: {_called(metric)}{ours[metric.name]:.4f}, {ours['latency_ms']:.3f} ms "
        f"({theirs['latency_ms'] / ours['latency_ms']:.2f}x as fast as {low}), "
        f"{ours['size_bytes'] / 1000:.0f} kB"
    )


def _called(metric: Quality) -> str:
    """Its name before a value, where it is not the usual one."""
    return "" if metric is ACCURACY else f"{metric.name} "


def recommend(
    models: Sequence[ValidatedModel],
    accuracy_drop: float | None,
    metric: Quality = ACCURACY,
    cost: Cost = "latency_ms",
) -> str:
    """Name of the model with least of a cost whose score on validation the accepted drop allows.

    Of those as fast the smallest. A latency that was disturbed is believed only where all of them
    were. A model that a runtime answers otherwise for is recommended only where that is so of all.
    """
    names = [model.name for model in models if model.role == "reference"]
    low = next(model for model in models if model.name == low_reference(names))
    bar = low.validation_score
    drop = allowed_drops(metric, bar, accuracy_drop)["no_loss"]
    good = [m for m in models if _keeps(metric, m.validation_score, bar, drop)]
    return best_delivered(good, cost).name


def _keeps(metric: Quality, value: float, bar: float, drop: float) -> bool:
    """Whether a score is at most so much worse; said so that the bar itself is kept exactly."""
    return value >= bar - drop if metric.direction == "maximize" else value <= bar + drop


def _best(
    evaluations: Sequence[Evaluation],
    references: Mapping[str, Evaluation],
    experiment: Experiment,
) -> Evaluation | None:
    """The one to recommend, within the accepted drop below the reference in low precision."""
    metric = experiment.quality
    bar = references[low_reference(references)].metrics[metric.name]
    drop = allowed_drops(metric, bar, experiment.export.accuracy_drop)["no_loss"]
    good = _kept_by(evaluations, metric, bar, drop)
    return best_measured(good, experiment.cost) if good else None


def _calm(evaluations: Sequence[Evaluation]) -> Sequence[Evaluation]:
    """Those whose latency was not disturbed; all where every one was."""
    return [e for e in evaluations if not e.disturbed] or evaluations


def _spread(evaluations: Sequence[Evaluation], experiment: Experiment) -> list[Evaluation]:
    """Up to `export.models` of the front, spread over it."""
    if not evaluations:
        return []
    positions = spread(costs_of(evaluations, experiment), experiment.export.models)
    return [evaluations[i] for i in positions]


def within_constraints(
    evaluations: Sequence[Evaluation],
    experiment: Experiment,
    references: Mapping[str, Evaluation],
    *,
    of_costs_alone: bool = False,
) -> list[Evaluation]:
    """Those that keep the experiment's constraints, or those of them that no training changes."""
    constraints = resolved_constraints(experiment, references)
    if of_costs_alone:
        constraints = [c for c in constraints if c.metric != experiment.quality.name]
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


def costs_of(evaluations: Sequence[Evaluation], experiment: Experiment) -> FloatArray:
    """What was measured of the experiment's objectives, as costs `(n, n_objectives)`."""
    objectives = experiment.parsed_objectives()
    rows = [[e.metrics[objective.name] for objective in objectives] for e in evaluations]
    return to_costs(np.array(rows), objectives)


def provisional_front(evaluations: Sequence[Evaluation], experiment: Experiment) -> Front:
    """The best so far by what the search has measured; nothing is exported, no test score."""
    picks = pick_models(evaluations, wanted(evaluations, experiment))
    metric = experiment.quality
    references = [pick for pick in picks if pick.evaluation.role == "reference"]
    models = [
        replace(
            unscored(pick, metric), versus={r.name: _by_search(pick, r, metric) for r in references}
        )
        for pick in picks
    ]
    return Front(
        models=tuple(models),
        recommended=recommend(models, experiment.export.accuracy_drop, metric, experiment.cost),
        evaluations=len(evaluations),
        conditions={"target": experiment.target.describe()},
        metric=metric.name,
    )


def unscored(pick: Pick, metric: Quality) -> ValidatedModel:
    """What the search knows of a model."""
    evaluation = pick.evaluation
    latency = evaluation.details.latency
    assert latency is not None, "it was measured"
    return ValidatedModel(
        name=pick.name,
        role="reference" if evaluation.role == "reference" else "front",
        candidate=evaluation.candidate,
        validation_score=evaluation.metrics[metric.name],
        test_score=None,
        latency_ms=(latency.median_ms, latency.q1_ms, latency.q3_ms),
        size_bytes=int(evaluation.metrics["size_bytes"]),
        coverage=evaluation.details.coverage,
        versus={},
        latency_disturbed=evaluation.disturbed,
    )


def _by_search(pick: Pick, reference: Pick, metric: Quality) -> Versus:
    ours, theirs = pick.evaluation.metrics, reference.evaluation.metrics
    faster = theirs["latency_ms"] / ours["latency_ms"]
    return Versus(
        score_difference=ours[metric.name] - theirs[metric.name],
        latency_ratio=faster,
        latency_ratio_low=np.nan,
        latency_ratio_high=np.nan,
        latency_disturbed=pick.evaluation.disturbed or reference.evaluation.disturbed,
        size_ratio=theirs["size_bytes"] / ours["size_bytes"],
    )
