"""Which settings are tried in short trainings, and in which ranges."""

from __future__ import annotations

from nas.recipe.defaults import Recipe, value_at
from nas.recipe.short_steps import Section, short_steps
from nas.recipe.trials import Options

STAGES: dict[Section, str] = {"tune": "tuning trials", "polish": "polish trials"}
"""Section of the experiment -> the stage in which its settings are tried."""
MOST: dict[Section, int] = {"tune": 3, "polish": 6}
"""So many whole short trainings may be done; as most are given up early, more are tried."""
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


def tried_steps(recipe: Recipe, section: Section, samples: int) -> int:
    """Steps of a section's short trainings; 0 where there are none. samples: of training."""
    if not (recipe.experiment.trials and options_of(recipe, section)):
        return 0
    return short_steps(value_at(recipe.experiment, section), section, samples)
