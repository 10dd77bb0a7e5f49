"""The study of a run: opened, claimed by its driver, compared with an experiment."""

from __future__ import annotations

from nas.evaluation.record import Evaluation
from nas.experiment.schema import Experiment
from nas.ledger.ledger import Ledger
from nas.ledger.storage import open_storage
from nas.run.run_folder import RunFolder, RunFolderError, read_json
from nas.run.saved_experiment import FIXED, as_made, changed_sections, kept_experiment
from supernets.space.space import SearchSpace


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
    note = ledger.state.experiment
    kept = experiment if note is None else as_made(Experiment.model_validate(note))
    changes = changed_sections(kept, experiment, sections)
    if changes:
        raise RunFolderError(
            f"study {experiment.name!r} belongs to another experiment ({'; '.join(changes)}); "
            "give this one another name"
        )
