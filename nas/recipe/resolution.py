"""From an experiment as it is written to one with nothing left open, once for a run folder."""

from __future__ import annotations

from collections.abc import Mapping

from hardware.files import write_atomically
from nas.experiment.given import filled, with_values
from nas.experiment.load import dump_experiment, load_experiment
from nas.experiment.schema import Experiment
from nas.recipe.defaults import Recipe, derive, value_at
from nas.recipe.facts import Facts
from nas.run.run_folder import RunFolder, read_json, write_json
from nas.run.saved_experiment import FIXED, kept_experiment
from supernets.data.data import TaskData


def continued(experiment: Experiment, folder: RunFolder) -> Experiment:
    """What an experiment leaves open as the folder's run has it, if there is one.

    With another effort than that run's only what its measurements depend on; the rest is derived.
    """
    if not folder.experiment.exists():
        return experiment
    kept = load_experiment(folder.experiment)
    if experiment.effort == kept.effort:
        return filled(experiment, kept)
    fixed = {name: getattr(filled(experiment, kept), name) for name in FIXED}
    return with_values(experiment, fixed)


def resolved(experiment: Experiment, folder: RunFolder, data: TaskData) -> Recipe:
    """Derive what is still open after `continued`; what was derived then keeps its reason."""
    recipe = derive(experiment, Facts.of(experiment, data))
    return Recipe(recipe.experiment, {**_kept_reasons(recipe.experiment, folder), **recipe.reasons})


def keep(recipe: Recipe, folder: RunFolder) -> None:
    """Write experiment.yaml, every derived value with its reason, and the reasons alone."""
    experiment = kept_experiment(recipe.experiment)
    write_json(folder.recipe, {"reasons": dict(recipe.reasons)})
    write_atomically(folder.experiment, dump_experiment(experiment, recipe.reasons))


def _kept_reasons(experiment: Experiment, folder: RunFolder) -> Mapping[str, str]:
    """Reasons of the folder's run for values that are still the same."""
    if not (folder.recipe.exists() and folder.experiment.exists()):
        return {}
    kept, reasons = load_experiment(folder.experiment), read_json(folder.recipe)["reasons"]
    return {w: r for w, r in reasons.items() if value_at(kept, w) == value_at(experiment, w)}
