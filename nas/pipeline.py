"""A run from experiment to report; every stage continues what the run folder already holds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml

from hardware.precision import Precision
from nas.candidate import Candidate
from nas.check import refuse_impossible
from nas.config import Experiment
from nas.experiment_file import dump_experiment, load_experiment
from nas.export import Exporter
from nas.front_file import Front
from nas.lab import Lab
from nas.ledger import Evaluation, Ledger
from nas.predictor_file import PredictorReport, report_predictors
from nas.progress import Reporter
from nas.report import Report, html, markdown
from nas.run_folder import RunFolder, RunFolderError, read_json, write_atomically, write_json
from nas.search import history_of, measure_references, search
from nas.storage import open_storage
from nas.strategy import make_strategy
from nas.validate import provisional_front
from supernets.base import SPACE_FILE, WEIGHTS_FILE
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
"""Sections that decide what the measurements in a run folder mean; the others may change."""


def run(experiment: Experiment, folder: RunFolder, reporter: Reporter) -> Front:
    """Tune, search, validate, export and report; skips what is there already.

    Raises ValueError for what a user can put right; nothing already computed is lost.
    """
    reporter.say(f"target: {experiment.target.target().execution_provider}")
    refuse_changes(experiment, folder)
    with folder.locked():
        if not (folder.supernet / WEIGHTS_FILE).exists():
            refuse_impossible(experiment)
        write_atomically(folder.experiment, dump_experiment(experiment))
        torch.manual_seed(experiment.seed)
        lab = Lab.prepare(experiment, folder, reporter)
        lab.ledger.recover()
        metrics = measure_references(lab.ledger, lab.references, lab.evaluator, reporter)
        problem = lab.problem(metrics)
        strategy = make_strategy(problem, experiment.search, experiment.seed)
        search(
            lab.ledger,
            problem,
            strategy,
            experiment.search,
            lab.evaluator,
            reporter,
            experiment.seed,
        )
        evaluations = lab.ledger.evaluations()
        front = read_front(folder)
        if front is None or front.evaluations != len(evaluations):
            history = history_of(evaluations, problem)
            predictors = report_predictors(problem, history, experiment.seed)
            write_json(folder.predictors, [p.to_json() for p in predictors])
            front = lab.validate(evaluations, reporter)
            write_json(folder.front, front.to_json())
        _write_reports(experiment, folder, front, evaluations, finished=True)
        return front


def refuse_changes(experiment: Experiment, folder: RunFolder) -> None:
    """Raise RunFolderError if the folder holds measurements of another experiment."""
    if not folder.experiment.exists():
        return
    kept = yaml.safe_load(folder.experiment.read_text(encoding="utf-8"))
    given = json.loads(experiment.model_dump_json())
    changes = [
        change
        for section in FIXED
        for change in differences(kept.get(section), given[section], section)
    ]
    if changes:
        raise RunFolderError(
            f"{folder.path}: holds a run of another experiment ({'; '.join(changes)}); "
            "choose another folder with --out, or delete this one"
        )


def differences(kept: Any, given: Any, key: str) -> list[str]:
    """Dotted keys at which two values differ, each with both of them."""
    if isinstance(kept, Mapping) and isinstance(given, Mapping):
        names = sorted({*kept, *given})
        return [d for n in names for d in differences(kept.get(n), given.get(n), f"{key}.{n}")]
    return [] if kept == given else [f"{key} was {kept!r}, now {given!r}"]


def read_experiment(folder: RunFolder) -> Experiment:
    """The experiment of a run folder. Raises RunFolderError where there is none."""
    if not folder.experiment.exists():
        raise RunFolderError(f"{folder.path}: holds no run; `simqnas run FILE` starts one")
    return load_experiment(folder.experiment)


def read_front(folder: RunFolder) -> Front | None:
    """The validated front, None before there is one or when a model of it is missing."""
    if not folder.front.exists():
        return None
    front = Front.from_json(read_json(folder.front))
    paths = [folder.model(model.name) / "model.onnx" for model in front.models]
    return front if all(path.exists() for path in paths) else None


def write_report(folder: RunFolder) -> None:
    """Write the report of a run, finished or not.

    Raises RunFolderError before the references are measured.
    """
    experiment = read_experiment(folder)
    evaluations = read_evaluations(experiment, folder)
    front = read_front(folder)
    finished = front is not None and front.evaluations == len(evaluations)
    if front is None or not finished:
        front = provisional_front(evaluations, experiment)
    _write_reports(experiment, folder, front, evaluations, finished)


def read_evaluations(experiment: Experiment, folder: RunFolder) -> list[Evaluation]:
    """Everything in a run's ledger. Raises RunFolderError before there is one."""
    if not folder.journal.exists():
        raise RunFolderError(
            f"{folder.path}: nothing is measured yet; `simqnas run` gets there after tuning"
        )
    space = SearchSpace.from_json(read_json(folder.supernet / SPACE_FILE))
    storage = open_storage(None, folder.journal)
    ledger = Ledger.open(storage, experiment.name, space, experiment.parsed_objectives())
    return ledger.evaluations()


def _write_reports(
    experiment: Experiment,
    folder: RunFolder,
    front: Front,
    evaluations: list[Evaluation],
    finished: bool,
) -> None:
    kept = read_json(folder.predictors) if folder.predictors.exists() else []
    predictors = [PredictorReport.from_json(entry) for entry in kept]
    report = Report(experiment.name, front, evaluations, predictors, finished)
    write_atomically(folder.report_markdown, markdown(report))
    write_atomically(folder.report_html, html(report))


def export(
    folder: RunFolder,
    out: Path,
    key: str | None,
    architecture: str | None,
    precision: str,
    reporter: Reporter,
) -> list[Path]:
    """Write candidates of a run as model folders under `out`; returns their paths.

    Without a key or an architecture: the best known candidate. Raises ValueError for an unknown
    key, architecture or precision, and before the super-network is tuned.
    """
    experiment = read_experiment(folder)
    if not (folder.supernet / WEIGHTS_FILE).exists():
        raise RunFolderError(
            f"{folder.path}: the super-network is not tuned yet; `simqnas run` does that first"
        )
    lab = Lab.prepare(experiment, folder, reporter)
    if architecture is not None:
        candidate = _uniform(lab, architecture, precision)
        name = f"{architecture}-{precision}"
    else:
        candidate = _known(lab.ledger.evaluations(), experiment, key)
        name = candidate.key
    Exporter(lab.workbench, lab.data).write(candidate, out / name)
    return [out / name]


def _uniform(lab: Lab, architecture: str, precision: str) -> Candidate:
    space = lab.workbench.space
    genomes = {"largest": space.largest(), "smallest": space.smallest()}
    if architecture not in genomes:
        raise ValueError(f"--architecture {architecture}: allowed are {', '.join(genomes)}")
    allowed = [p.value for p in lab.target.precisions]
    if precision not in allowed:
        raise ValueError(f"--precision {precision}: allowed are {', '.join(allowed)}")
    return lab.workbench.uniform(genomes[architecture], Precision(precision))


def _known(evaluations: list[Evaluation], experiment: Experiment, key: str | None) -> Candidate:
    """The candidate with this key, or the recommended one of what is known."""
    good = {e.candidate.key: e for e in evaluations if e.failure is None}
    if key is None:
        front = provisional_front(evaluations, experiment)
        return front.model(front.recommended).candidate
    if key not in good:
        known = ", ".join(sorted(good)) or "none"
        raise ValueError(f"--key {key}: no measured candidate has this key; known are {known}")
    return good[key].candidate
