"""A run that starts from another one's super-network and from what was measured of it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from typing import Any, NamedTuple

from hardware.files import replacing
from nas.evaluation.candidate import Candidate
from nas.experiment.given import filled, with_values
from nas.experiment.schema import Experiment
from nas.ledger.study import read_evaluations
from nas.run.data_record import DataRecord
from nas.run.run_folder import SUPERNET_FILES, RunFolder, RunFolderError, read_json, write_json
from nas.run.saved_experiment import changed_sections, differences, read_experiment

SUPERNET = ("seed", "model", "data", "task", "space", "tune")
"""Sections that a super-network follows from."""
SCORES = ("quantization", "evaluate")
"""Sections that scores depend on beside those; latency depends on the target too."""


class Known(NamedTuple):
    """A candidate, and what it scored on validation, by metric."""

    candidate: Candidate
    scores: Mapping[str, float]


def opened_from(experiment: Experiment, source: RunFolder) -> Experiment:
    """An experiment on another run's super-network: what it leaves open there is that run's.

    Raises RunFolderError, with what differs, if its super-network is another one.
    """
    theirs = read_experiment(source)
    both = filled(experiment, theirs)
    experiment = with_values(experiment, {name: getattr(both, name) for name in SUPERNET})
    changes = changed_sections(theirs, experiment, SUPERNET)
    if changes:
        raise RunFolderError(
            f"--from {source.path}: its super-network is another experiment's "
            f"({'; '.join(changes)}); target, objectives, constraints, search, polish and export "
            "may differ: leave the rest out of the file, or run without --from"
        )
    missing = [name for name in SUPERNET_FILES if not (source.supernet / name).exists()]
    if missing:
        raise RunFolderError(
            f"--from {source.path}: its super-network is not tuned yet ({missing[0]} is missing); "
            "`simqnas run` does that first"
        )
    return experiment


def inherit(
    experiment: Experiment, record: DataRecord, folder: RunFolder, source: RunFolder
) -> str:
    """Take over super-network and scores, unless the folder has its own; says what it did.

    Raises RunFolderError if the source was made with other data.
    """
    if folder.is_tuned:
        return f"--from {source.path}: the super-network is here already"
    record.refuse_changes(source)
    folder.supernet.mkdir(parents=True, exist_ok=True)
    known = _scores(experiment, source)
    write_json(folder.known, known)
    for name in SUPERNET_FILES:
        with replacing(folder.supernet / name) as part:
            shutil.copyfile(source.supernet / name, part)
    why = "" if known else " (precisions, batches or metrics of this run are others)"
    return f"--from {source.path}: its super-network and scores of {len(known)} candidates{why}"


def _scores(experiment: Experiment, source: RunFolder) -> list[dict[str, Any]]:
    """What was scored as this run would do it, the newest first."""
    theirs = read_experiment(source)
    changes = changed_sections(theirs, experiment, SCORES)
    for part in ("target.batch_size", "export.opset"):
        section, key = part.split(".")
        before, now = (getattr(getattr(e, section), key) for e in (theirs, experiment))
        changes += differences(before, now, part)
    names = [metric.name for metric in experiment.qualities]
    return [
        {"candidate": e.candidate.to_json(), "scores": {n: e.metrics[n] for n in names}}
        for e in reversed([] if changes else read_evaluations(theirs, source))
        if e.failure is None and all(n in e.metrics for n in names)
    ]


def known_candidates(folder: RunFolder) -> dict[str, Known]:
    """Key -> what another run knows of a candidate, the newest first."""
    kept = read_json(folder.known) if folder.known.exists() else []
    found = [Known(Candidate.from_json(entry["candidate"]), entry["scores"]) for entry in kept]
    return {known.candidate.key: known for known in found}
