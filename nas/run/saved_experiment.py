"""What a run has written down: its experiment and its ledger, readable without torch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from nas.experiment.database_url import STORAGE_VARIABLE, without_password
from nas.experiment.given import is_given, with_values
from nas.experiment.load import load_experiment
from nas.experiment.schema import Experiment
from nas.run.run_folder import RunFolder, RunFolderError, read_json

FIXED = (
    "seed",
    "model",
    "data",
    "task",
    "metric",
    "space",
    "tune",
    "objectives",
    "target",
    "quantization",
    "evaluate",
)
"""Sections that decide what the measurements of a run mean; the others may change."""
EARLIER = {"data.kept_back": 0.0, "quantization.rounding": "nearest"}
"""What version 0.1.0 did where its files do not say."""
LOCAL = ("model", "data")
"""Sections with paths, which differ between machines."""


def kept_in(folder: RunFolder) -> Experiment:
    """What the folder's run was made with."""
    return as_made(load_experiment(folder.experiment))


def as_made(kept: Experiment) -> Experiment:
    """A kept experiment; what version 0.1.0 did not know is what it did then."""
    return with_values(kept, {w: was for w, was in EARLIER.items() if not is_given(kept, w)})


def read_experiment(folder: RunFolder) -> Experiment:
    """The experiment of a run folder. Raises RunFolderError where there is none."""
    if not folder.experiment.exists():
        raise RunFolderError(f"{folder.path}: holds no run; `simqnas run FILE` starts one")
    return at_storage(kept_in(folder))


def at_storage(experiment: Experiment) -> Experiment:
    """The experiment with its ledger where $SIMQNAS_STORAGE says, if it says anything."""
    given = os.environ.get(STORAGE_VARIABLE) or experiment.storage
    return experiment.model_copy(update={"storage": given})


def kept_experiment(experiment: Experiment) -> Experiment:
    """The experiment as it may be written down: a password stays with its owner."""
    url = experiment.storage
    return experiment.model_copy(update={"storage": url and without_password(url)})


def is_derived(where: str, folder: RunFolder) -> bool:
    """Whether a value of the folder's run was derived and not stated. where: dotted keys."""
    return folder.recipe.exists() and where in read_json(folder.recipe)["reasons"]


def is_written(experiment: Experiment, folder: RunFolder) -> bool:
    """Whether the folder holds exactly this experiment."""
    return folder.experiment.exists() and kept_in(folder) == kept_experiment(experiment)


def refuse_changes(experiment: Experiment, folder: RunFolder) -> None:
    """Raise RunFolderError if the folder holds measurements of another experiment."""
    if not folder.experiment.exists():
        return
    changes = changed_sections(kept_in(folder), experiment, FIXED)
    if changes:
        raise RunFolderError(
            f"{folder.path}: holds a run of another experiment ({'; '.join(changes)}); "
            "choose another folder with --out, or delete this one"
        )


def changed_sections(kept: Experiment, given: Experiment, sections: tuple[str, ...]) -> list[str]:
    """Every difference between kept sections of an experiment and those of a given one."""
    before, now = kept.model_dump(mode="json"), given.model_dump(mode="json")
    return [change for name in sections for change in differences(before[name], now[name], name)]


def differences(kept: Any, given: Any, key: str) -> list[str]:
    """Dotted keys at which two values differ, each with both of them."""
    if isinstance(kept, Mapping) and isinstance(given, Mapping):
        names = sorted({*kept, *given})
        return [d for n in names for d in differences(kept.get(n), given.get(n), f"{key}.{n}")]
    return [] if kept == given else [f"{key} was {kept!r}, now {given!r}"]
