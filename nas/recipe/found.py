"""Settings that the data decides: found by short trainings before the long ones.

What the experiment states is never tried. Only training data is trained on, and only validation
data that the search may see judges.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from nas.experiment.given import with_values
from nas.ledger.storage import open_storage
from nas.recipe.defaults import Recipe, value_at
from nas.recipe.resolution import keep
from nas.recipe.short_steps import Section
from nas.recipe.short_training import ShortPolish, ShortTuning
from nas.recipe.trials import TrialStudy
from nas.recipe.tried import MOST, STAGES, options_of, tried_steps
from nas.run.pace import Pace
from nas.run.progress import Reporter
from nas.run.run_folder import RunFolder, read_json, write_json
from nas.run.trial_record import Trials, read_trials
from nas.training.train_supernet import Preparation, read_network
from supernets.data.data import TaskData
from supernets.families.super_network import SuperNetwork
from supernets.settings import TuneSettings
from supernets.space.space import SearchSpace
from supernets.training.distributed import Ranks


@dataclass
class Finder:
    """Finds settings of one run, from what was derived, and writes them into its folder."""

    recipe: Recipe
    data: TaskData
    folder: RunFolder
    reporter: Reporter
    pace: Pace

    def tune(self) -> Recipe:
        """Tune the super-network, by settings that are found before; find those of polishing then.

        What the folder has is not done again. Returns the recipe with what was found.
        """
        experiment, data, folder = self.recipe.experiment, self.data, self.folder
        Preparation(
            experiment, data, folder, self.reporter, pace=self.pace, find=self._tune_settings
        ).tune()
        self._find("polish", self._short_polish)
        return self.recipe

    def _tune_settings(self, network: SuperNetwork) -> TuneSettings:
        """network: whose units are in order, and which is to be tuned."""
        self._find("tune", partial(self._short_tuning, network))
        return self.recipe.experiment.tune

    def _find(self, section: Section, training: Callable[[int], ShortTuning | ShortPolish]) -> None:
        """Take over what a section's trials say; they are run unless the folder has them."""
        known = read_trials(self.folder)
        if section not in known:
            steps = tried_steps(self.recipe, section, len(self.data.train))
            if not steps or (section == "polish" and self.folder.polished.exists()):
                return
            if Ranks.of_environment().count > 1:
                self.reporter.say(f"{STAGES[section]}: none where processes train together")
                return
            known[section] = self._tried(section, training(steps))
            write_json(self.folder.trials, {name: t.to_json() for name, t in known.items()})
        self.recipe = with_found(self.recipe, section, known[section])
        keep(self.recipe, self.folder)

    def _tried(self, section: Section, training: ShortTuning | ShortPolish) -> Trials:
        stage = self.reporter.stage(STAGES[section])
        study = TrialStudy(
            open_storage(None, self.folder.trial_journal),
            section,
            options_of(self.recipe, section),
            training,
            self.recipe.experiment.quality,
            MOST[section] * training.steps,
            self.recipe.experiment.seed,
            stage,
            lambda: self.pace.left_s(STAGES[section]) <= 0,
        )
        rows, samples = study.run(), len(training.judge.split)
        trials = Trials(rows, training.length, samples, training.before(), study.metric.sign)
        self.reporter.say(f"{STAGES[section]}: {trials.reason()}")
        return trials

    def _short_tuning(self, network: SuperNetwork, length: int) -> ShortTuning:
        experiment = self.recipe.experiment
        space = network.space(experiment.space)
        return ShortTuning(experiment, self.data, network, space, length)

    def _short_polish(self, length: int) -> ShortPolish:
        network = read_network(self.folder.supernet)
        space = SearchSpace.from_json(read_json(self.folder.space))
        return ShortPolish(self.recipe.experiment, self.data, network, space, length)


def with_found(recipe: Recipe, section: Section, trials: Trials) -> Recipe:
    """The recipe with what trials found in place of what was derived, and with the reason.

    A setting that is stated by now stays.
    """
    chosen, why, reasons = dict(trials.chosen), trials.reason(), dict(recipe.reasons)
    if chosen.pop("teacher", True) is False:
        chosen["teacher"] = None
    elif section == "polish" and "learning_rate" in chosen:
        teacher = value_at(recipe.experiment, "polish.teacher")
        if teacher is not None:  # at half the rate of its students, as derived
            rate = chosen["learning_rate"] / 2
            chosen["teacher"] = teacher.model_copy(update={"learning_rate": rate})
    values = {f"{section}.{name}": value for name, value in chosen.items()}
    values = {where: value for where, value in values.items() if where in reasons}
    for where in (f"{section}.{name}" for name in trials.tried):
        if where in reasons and why not in reasons[where]:
            reasons[where] += f"; {why}"
    return recipe._replace(experiment=with_values(recipe.experiment, values), reasons=reasons)
