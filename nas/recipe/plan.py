"""What every stage of a run will take, and how much of each fits into a budget."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from nas.delivery.requests import REQUEST_REPEATS
from nas.delivery.validator import VALIDATION_REPEATS
from nas.experiment.given import is_given, with_values
from nas.experiment.schema import Experiment
from nas.recipe.defaults import EFFORTS, EXTENTS, Recipe, derive, value_at
from nas.recipe.facts import Facts
from nas.recipe.short_training import JUDGED
from nas.recipe.timing import Costs
from nas.recipe.trials import LOOKS
from nas.recipe.tried import MOST, tried_steps
from nas.recipe.tried import STAGES as TRIAL_STAGES
from nas.run.pace import KEPT_BACK, STAGES
from supernets.settings import TrainSettings

LEAST_FACTOR, FACTORS_TRIED = 0.01, 80
"""Of the shortest run that is tried, and how many up to the longest."""
FINISHING_S = 3.0
"""Reports, of any run."""
EVALUATION_SHARE = 0.3
"""Part of a budget that scoring this many candidates may take, else validation is cut."""
FEWEST_SCORED, FEWEST_SAMPLES = 30, 500
DELIVERED_SHARE, FEWEST_TESTED = 0.25, 2000
"""Part of a budget that asking delivered models may take, else test is cut, to not less than this:
a difference of two models that answer 5 % of 2,000 otherwise is known within 0.5 % (one sigma)."""


class BudgetError(ValueError):
    """The budget is too small for any run."""


@dataclass(frozen=True)
class SampleCounts:
    """Of the splits; validation is what is chosen by, kept_back the rest of it."""

    train: int
    validation: int
    kept_back: int
    test: int

    @property
    def delivered(self) -> int:
        """What every exported model is asked about."""
        return self.validation + self.kept_back + self.test


@dataclass(frozen=True)
class Plan:
    """A recipe, and the seconds of its stages.

    warning: what does not fit, in words. room: stage -> how many times its epochs the effort
    allows, should it turn out faster than planned.
    """

    recipe: Recipe
    seconds: Mapping[str, float]
    polish_s: float = 0.0
    warning: str = ""
    room: Mapping[str, float] = field(default_factory=dict)

    @property
    def total_s(self) -> float:
        """Of the whole run."""
        return sum(self.seconds.values())

    @property
    def free(self) -> set[str]:
        """Stages whose extent was stated: they end when that is done."""
        return {s for s, where in EXTENTS.items() if where not in self.recipe.reasons}

    def lines(self) -> Iterator[str]:
        """The plan for people."""
        budget_s = self.recipe.experiment.budget_s
        against = "" if budget_s is None else f" of {budget_s / 60:.3g}"
        for stage in STAGES:
            if stage in self.seconds:
                yield f"plan: {stage}: {self.seconds[stage] / 60:.1f} min{self._extent(stage)}"
        yield f"plan: {self.total_s / 60:.1f}{against} min in all"
        if self.warning:
            yield self.warning

    def _extent(self, stage: str) -> str:
        given = self.recipe.experiment
        epochs = {"training": given.model.training, "tuning": given.tune, "polish": given.polish}
        if (settings := epochs.get(stage)) is not None:
            models = ""
            if stage == "polish" and given.polish is not None:
                models = f" of {given.export.models + given.polish.probes} models"
            return f" ({settings.epochs} epochs{models})"
        return f" ({given.search.evaluations} candidates)" if stage == "search" else ""


def predict(recipe: Recipe, costs: Costs, counts: SampleCounts, spent_s: float) -> dict[str, float]:
    """Stage -> seconds. spent_s: before the first of them."""
    experiment = recipe.experiment
    train, polish = experiment.model.training, experiment.polish
    names = [name for name in costs.sample_s if name != "candidate"]

    def evaluation_s(name: str, samples: int) -> float:
        return costs.other_s[name] + samples * costs.sample_s[name]

    found = {"preparing": spent_s}
    if train is not None:
        found["training"] = costs.training.of(_steps(train, counts)) + costs.accuracy_s
    found |= trials_s(recipe, costs, counts)
    found["tuning"] = costs.tuning.of(_steps(experiment.tune, counts)) + costs.accuracy_s
    found["references"] = sum(evaluation_s(name, counts.validation) for name in names)
    evaluations = experiment.search.evaluations
    rounds = evaluations / experiment.search.round_size
    found["search"] = (
        costs.rounding_s[min(evaluations, len(costs.rounding_s)) - 1]
        + max(0.0, rounds - 1) * costs.round_s  # the first is drawn at random
        + evaluations * evaluation_s("candidate", counts.validation)
    )
    models = min(experiment.export.models, evaluations)
    if polish is not None:
        one = polish_of_one(experiment, costs, counts)
        # Those that are polished for the forecast are seldom among those that are delivered.
        found["polish"] = (models + polish.probes) * (
            one + evaluation_s("candidate", counts.validation)
        )
        if polish.teacher is not None:
            own = polish.model_copy(update={"epochs": polish.teacher.epochs})
            found["polish"] += costs.teacher.of(_steps(own, counts))
            found["polish"] += evaluation_s(names[-1], counts.validation)
    exported = [(1, name) for name in names] + [(models, "candidate")]
    asked = counts.delivered + VALIDATION_REPEATS + REQUEST_REPEATS
    found["validation"] = FINISHING_S + sum(n * evaluation_s(name, asked) for n, name in exported)
    return found


def trials_s(recipe: Recipe, costs: Costs, counts: SampleCounts) -> dict[str, float]:
    """Stage -> seconds of short trainings, of those that there are."""
    found, polish = {}, recipe.experiment.polish
    judging_s = costs.accuracy_s * min(1.0, JUDGED / counts.validation)
    for section, stage in TRIAL_STAGES.items():
        if steps := tried_steps(recipe, section, counts.train):
            of, networks = (costs.tuning, 2) if section == "tune" else (costs.polish, 1)
            settings = recipe.experiment.tune if section == "tune" else polish
            assert settings is not None, "what is not done is not tried"
            seen = min(1.0, steps * settings.batch_size / counts.train)
            one_s = seen * of.once_s + steps * of.step_s + len(LOOKS) * networks * judging_s
            found[stage] = MOST[section] * one_s
            if section == "polish" and polish is not None and polish.teacher is not None:
                found[stage] += costs.teacher.step_s * steps
    return found


def polish_of_one(experiment: Experiment, costs: Costs, counts: SampleCounts) -> float:
    """Seconds of training one model alone."""
    polish = experiment.polish
    return 0.0 if polish is None else costs.polish.of(_steps(polish, counts))


def _steps(settings: TrainSettings, counts: SampleCounts) -> int:
    return int(settings.epochs * max(1, -(-counts.train // settings.batch_size)))


def plan(
    experiment: Experiment, facts: Facts, costs: Costs, counts: SampleCounts, spent_s: float
) -> Plan:
    """Fit what is left open to the budget; without one, say what the effort takes.

    Raises BudgetError, with the least that works, if not even the shortest run fits.
    """

    def of(given: Experiment, factor: float) -> Plan:
        recipe = derive(given, facts, factor)
        seconds = predict(recipe, costs, counts, spent_s)
        return Plan(recipe, seconds, polish_of_one(recipe.experiment, costs, counts))

    budget_s = experiment.budget_s
    if budget_s is None:
        return of(experiment, EFFORTS[experiment.effort])
    most = EFFORTS[experiment.effort] if is_given(experiment, "effort") else max(EFFORTS.values())
    factors = np.geomspace(most, LEAST_FACTOR, FACTORS_TRIED)
    tries = [experiment]
    if not is_given(experiment, "polish"):
        tries.append(with_values(experiment, {"polish": None}))
    made = [of(given, float(f)) for given in tries for f in factors]
    fitting = (p for p in made if p.total_s <= budget_s * (1 - KEPT_BACK))
    found = next(fitting, None) or _too_long(made[-1], experiment)
    if found.recipe.experiment.polish is None and not is_given(experiment, "polish"):
        note = f"plan: {experiment.budget} is too short for a polish; none is done"
        found = replace(found, warning=found.warning or note)
    return replace(found, room=_room(found, derive(experiment, facts, most)))


def _room(found: Plan, most: Recipe) -> dict[str, float]:
    """Of the stages that train: epochs of the longest recipe over those planned."""
    room = {}
    for stage, where in EXTENTS.items():
        planned, longest = (value_at(r.experiment, where) for r in (found.recipe, most))
        if stage != "search" and planned and longest:
            room[stage] = max(1.0, longest / planned)
    return room


def _too_long(shortest: Plan, experiment: Experiment) -> Plan:
    """The shortest plan if stated numbers make it too long, else raises BudgetError."""
    stated = [w for w in (*EXTENTS.values(), "export.models") if is_given(experiment, w)]
    needed_s = shortest.total_s / (1 - KEPT_BACK)
    if stated:
        warning = (
            f"plan: {', '.join(stated)} are stated and win over budget: {experiment.budget}; the "
            f"run will take about {needed_s / 60:.1f} min"
        )
        return replace(shortest, warning=warning)
    parts = ", ".join(f"{stage} {s:.0f} s" for stage, s in shortest.seconds.items())
    raise BudgetError(
        f"budget: {experiment.budget} is too short for one epoch and one round on this machine "
        f"({parts}); give at least {-(-needed_s // 6) / 10:.1f} min"
    )


def fewer_samples(
    experiment: Experiment, recipe: Recipe, costs: Costs, counts: SampleCounts
) -> dict[str, int]:
    """Most samples of validation and test that a budget leaves, as fields of `data`; only those
    that are cut and that the experiment, which the recipe is of, does not state."""
    budget_s, found = experiment.budget_s, dict[str, int]()
    if budget_s is None:
        return found
    room_s = budget_s * EVALUATION_SHARE / FEWEST_SCORED - costs.other_s["candidate"]
    samples = max(FEWEST_SAMPLES, int(room_s / costs.sample_s["candidate"]))
    judged = counts.validation + counts.kept_back
    if samples < counts.validation and not is_given(experiment, "data.max_validation"):
        judged = found["max_validation"] = round(samples * judged / counts.validation)
    more = costs.sample_s["candidate"] * (recipe.experiment.export.models - 1)
    samples = int(budget_s * DELIVERED_SHARE / (sum(costs.sample_s.values()) + more)) - judged
    samples = max(FEWEST_TESTED, samples)
    if samples < counts.test and not is_given(experiment, "data.max_test"):
        found["max_test"] = samples
    return found
