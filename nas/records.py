"""What a run has written down: its experiment and its ledger, readable without torch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from filelock import FileLock

from nas.config import Experiment
from nas.database_url import STORAGE_VARIABLE, without_password
from nas.experiment_file import load_experiment
from nas.latency_queue import LatencyQueue
from nas.ledger import Evaluation, Ledger
from nas.parcels import Parcels, sha256
from nas.run_folder import RunFolder, RunFolderError, read_json, write_atomically
from nas.storage import open_storage
from supernets.space import SearchSpace

FIXED = (
    "seed",
    "model",
    "data",
    "space",
    "tune",
    "objectives",
    "target",
    "quantization",
    "evaluate",
)
"""Sections that decide what the measurements of a run mean; the others may change."""
SUPERNET_FILES = ("config.json", "space.json", "template.onnx", "model.safetensors")
"""What a worker needs; the weights come last, whose presence says that all is there."""
LOCAL = ("model", "data")
"""Sections with paths, which differ between machines."""


def read_experiment(folder: RunFolder) -> Experiment:
    """The experiment of a run folder. Raises RunFolderError where there is none."""
    if not folder.experiment.exists():
        raise RunFolderError(f"{folder.path}: holds no run; `simqnas run FILE` starts one")
    return at_storage(load_experiment(folder.experiment), None)


def at_storage(experiment: Experiment, url: str | None) -> Experiment:
    """The experiment with its ledger at `url`, or where $SIMQNAS_STORAGE says, if one is given."""
    given = url or os.environ.get(STORAGE_VARIABLE) or experiment.storage
    return experiment.model_copy(update={"storage": given})


def kept_experiment(experiment: Experiment) -> Experiment:
    """The experiment as it may be written down: a password stays with its owner."""
    url = experiment.storage
    return experiment.model_copy(update={"storage": url and without_password(url)})


def refuse_changes(experiment: Experiment, folder: RunFolder) -> None:
    """Raise RunFolderError if the folder holds measurements of another experiment."""
    if not folder.experiment.exists():
        return
    changes = changed_sections(load_experiment(folder.experiment), experiment, FIXED)
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


def open_ledger(experiment: Experiment, folder: RunFolder, space: SearchSpace) -> Ledger:
    """Open the ledger of a run, a new one included."""
    storage = open_storage(experiment.storage, folder.journal)
    objectives = experiment.parsed_objectives()
    return Ledger.open(storage, experiment.name, space, objectives, experiment.seed)


def read_evaluations(experiment: Experiment, folder: RunFolder) -> list[Evaluation]:
    """Everything in a run's ledger. Raises RunFolderError before there is one."""
    if not (folder.space.exists() and (experiment.storage or folder.journal.exists())):
        raise RunFolderError(
            f"{folder.path}: nothing is measured yet; `simqnas run` gets there after tuning"
        )
    space = SearchSpace.from_json(read_json(folder.space))
    return open_ledger(experiment, folder, space).evaluations()


def claim_study(ledger: Ledger, experiment: Experiment) -> None:
    """Write the experiment into its study, for workers; refuse the study of another experiment."""
    compare_study(ledger, experiment, FIXED)
    ledger.note(experiment=kept_experiment(experiment).model_dump(mode="json"))


def compare_study(ledger: Ledger, experiment: Experiment, sections: tuple[str, ...]) -> None:
    """Raise RunFolderError if the study was made for other settings in these sections."""
    note = ledger.notes.get("experiment")
    kept = experiment if note is None else Experiment.model_validate(note)
    changes = changed_sections(kept, experiment, sections)
    if changes:
        raise RunFolderError(
            f"study {experiment.name!r} belongs to another experiment ({'; '.join(changes)}); "
            "give this one another name"
        )


def open_latency_queue(experiment: Experiment, folder: RunFolder) -> LatencyQueue:
    """Open the queue of latency jobs of a run."""
    storage = open_storage(experiment.storage, folder.journal)
    return LatencyQueue.open(storage, experiment.name, open_parcels(experiment, folder))


def open_parcels(experiment: Experiment, folder: RunFolder) -> Parcels:
    """Where files travel between the machines of a run."""
    place = experiment.artifacts or str(folder.artifacts.resolve())
    return Parcels.open(place, experiment.name)


def send_supernet(experiment: Experiment, folder: RunFolder) -> dict[str, str]:
    """Send the tuned super-network on its way to workers; file name -> parcel."""
    parcels = open_parcels(experiment, folder)
    return {name: parcels.send((folder.supernet / name).read_bytes()) for name in SUPERNET_FILES}


def fetch_supernet(ledger: Ledger, experiment: Experiment, folder: RunFolder) -> None:
    """Bring the tuned super-network here, unless it is."""
    parcels, sent = open_parcels(experiment, folder), ledger.notes["supernet"]
    folder.supernet.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.supernet / "fetch.lock"):  # workers of one machine share the files
        for name in SUPERNET_FILES:
            path = folder.supernet / name
            if not path.exists() or not sent[name].endswith(sha256(path.read_bytes())):
                write_atomically(path, parcels.fetch(sent[name]))
