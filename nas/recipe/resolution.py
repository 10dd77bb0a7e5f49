"""From an experiment as it is written to one with nothing left open, once for a run folder."""

from __future__ import annotations

from collections.abc import Mapping

from hardware.files import write_atomically
from nas.experiment.given import filled, with_values
from nas.experiment.load import dump_experiment
from nas.experiment.schema import Experiment
from nas.recipe.defaults import Recipe, derive, value_at
from nas.recipe.facts import Facts
from nas.recipe.plan import SampleCounts, fewer_samples, plan
from nas.recipe.timing import Untuned, measure
from nas.run.pace import Pace
from nas.run.run_folder import RunFolder, read_json, write_json
from nas.run.saved_experiment import FIXED, kept_experiment, kept_in
from supernets.data.data import TaskData
from supernets.load import load_data
from supernets.training.distributed import Ranks

FEWER = {
    "max_validation": "what the budget leaves for judging candidates",
    "max_test": "what the budget leaves for asking delivered models",
}
"""Why fewer samples are used than there are."""


def continued(experiment: Experiment, folder: RunFolder) -> Experiment:
    """What an experiment leaves open as the folder's run has it, if there is one.

    With another effort, or another budget before the super-network is tuned: what its measurements
    depend on; the rest is derived anew. Later a budget can no longer be planned for.
    """
    if not folder.experiment.exists():
        return experiment
    kept = kept_in(folder)
    if experiment.effort == kept.effort and (experiment.budget == kept.budget or folder.is_tuned):
        return filled(experiment, kept)
    fixed = {name: getattr(filled(experiment, kept), name) for name in FIXED}
    return with_values(experiment, fixed)


def resolved(experiment: Experiment, folder: RunFolder, facts: Facts) -> Recipe:
    """Derive what is still open after `continued`; what was derived then keeps its reason."""
    recipe = derive(experiment, facts)
    kept = _kept_reasons(recipe.experiment, folder)
    return recipe._replace(
        reasons={**kept, **recipe.reasons}, notes=_late_budget(experiment, folder) or recipe.notes
    )


def _late_budget(experiment: Experiment, folder: RunFolder) -> tuple[str, ...]:
    """A line where another budget comes after the tuning."""
    if not (folder.is_tuned and folder.experiment.exists()):
        return ()
    kept = kept_in(folder)
    if experiment.effort != kept.effort or experiment.budget in (None, kept.budget):
        return ()
    return (
        f"budget: {experiment.budget} comes after the tuning, so nothing is planned anew; "
        "state search.evaluations for more candidates, or give another --out",
    )


def planned(
    experiment: Experiment,
    recipe: Recipe,
    facts: Facts,
    data: TaskData,
    untuned: Untuned,
    pace: Pace,
) -> tuple[TaskData, Recipe]:
    """Time a few steps; fit what is open to the budget, if there is one, and the pace to that.

    recipe: of the effort alone. The data may then be fewer. Raises BudgetError for a budget that
    is too short for any run.
    """
    if Ranks.of_environment().count > 1:
        raise ValueError(
            "budget: several processes that train together cannot be timed beforehand; give "
            "effort, or epochs and evaluations, instead"
        )
    costs = measure(recipe.experiment, data, untuned)
    reasons = dict(recipe.reasons)
    if fewer := fewer_samples(experiment, recipe, costs, _counts(data)):
        for name, samples in fewer.items():
            experiment = with_values(experiment, {f"data.{name}": samples})
            reasons[f"data.{name}"] = FEWER[name]
        data = load_data(experiment.data, experiment.model, experiment.task, known=data)
    found = plan(experiment, facts, costs, _counts(data), pace.now_s)
    if experiment.budget_s is not None:
        pace.plan(experiment.budget_s, found.seconds, found.free, found.polish_s, found.room)
    kept = {w: r for w, r in reasons.items() if value_at(found.recipe.experiment, w) is not None}
    return data, found.recipe._replace(
        reasons={**kept, **found.recipe.reasons}, notes=(*found.recipe.notes, *found.lines())
    )


def _counts(data: TaskData) -> SampleCounts:
    kept_back = len(data.kept_back or ())
    return SampleCounts(len(data.train), len(data.validation), kept_back, len(data.test))


def keep(recipe: Recipe, folder: RunFolder) -> None:
    """Write experiment.yaml, every derived value with its reason, and the reasons alone."""
    experiment = kept_experiment(recipe.experiment)
    write_json(folder.recipe, {"reasons": dict(recipe.reasons)})
    write_atomically(folder.experiment, dump_experiment(experiment, recipe.reasons))


def _kept_reasons(experiment: Experiment, folder: RunFolder) -> Mapping[str, str]:
    """Reasons of the folder's run for values that are still the same."""
    if not (folder.recipe.exists() and folder.experiment.exists()):
        return {}
    kept, reasons = kept_in(folder), read_json(folder.recipe)["reasons"]
    return {w: r for w, r in reasons.items() if value_at(kept, w) == value_at(experiment, w)}
