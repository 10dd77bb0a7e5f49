"""Which settings are tried in short trainings, in which ranges, and how long those are."""

from __future__ import annotations

from typing import Literal

from nas.experiment.schema import Experiment
from nas.recipe.defaults import Recipe, value_at
from nas.recipe.trials import Options

Section = Literal["tune", "polish"]
STAGES: dict[Section, str] = {"tune": "tuning trials", "polish": "polish trials"}
"""Section of the experiment -> the stage in which its settings are tried."""
SHARES: dict[Section, int] = {"tune": 6, "polish": 10}
"""A short training has this part of the steps of what it stands for."""
MOST: dict[Section, int] = {"tune": 3, "polish": 6}
"""So many whole short trainings may be done; as most are given up early, more are tried."""
LEAST_STEPS, MOST_STEPS = 60, 200
"""Of a short training: fewer tell nothing, more are not needed to tell."""
RATES = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Times the derived learning rate."""
WEIGHTS = (0.0, 1.0, 3.0)
"""Times the derived weight of features and blocks: not at all, as derived, more."""
NOISES = (0.0, 0.15, 0.3)
"""Parts of a text's tokens that are replaced."""


def options_of(recipe: Recipe, section: Section) -> dict[str, Options]:
    """Open settings of a section with the values to try: what was derived, and what lies beside."""
    given = value_at(recipe.experiment, section)
    if given is None:
        return {}
    rates = (float(f"{given.learning_rate * factor:.3g}") for factor in RATES)
    tried = {"learning_rate": (given.learning_rate, [given.learning_rate, *rates])}
    if section == "polish":
        if given.token_noise:
            tried["token_noise"] = given.token_noise, [given.token_noise, *NOISES]
        for name in ("block_weight", "feature_weight"):
            weight = getattr(given, name)
            tried[name] = weight, [weight * factor for factor in WEIGHTS]
        if given.teacher is not None:
            tried["teacher"] = True, [False, True]
    return {
        name: Options.of(values, derived)
        for name, (derived, values) in tried.items()
        if f"{section}.{name}" in recipe.reasons
    }


def short_steps(experiment: Experiment, section: Section, samples: int) -> int:
    """Steps of a section's short trainings; 0 where there are none. samples: of training."""
    settings = value_at(experiment, section)
    if settings is None or not experiment.trials:
        return 0
    steps = int(settings.epochs * max(1, -(-samples // settings.batch_size))) // SHARES[section]
    return 0 if steps < LEAST_STEPS else min(steps, MOST_STEPS)


def tried_steps(recipe: Recipe, section: Section, samples: int) -> int:
    """The same, 0 also where every setting is stated."""
    return short_steps(recipe.experiment, section, samples) if options_of(recipe, section) else 0
