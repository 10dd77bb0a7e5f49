"""A run from experiment to report; every stage continues what the run folder already holds."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from pydantic import ValidationError

from hardware.files import write_atomically
from hardware.formats.precision import Precision
from nas.delivery.results import Front
from nas.delivery.selection import provisional_front
from nas.dry_run import check
from nas.evaluation.candidate import Candidate
from nas.evaluation.record import Evaluation
from nas.experiment.load import dump_experiment
from nas.experiment.schema import Experiment
from nas.ledger.storage import StorageError, open_storage, storage_errors
from nas.ledger.study import claim_study, read_evaluations
from nas.reporting.report import Report, html, markdown
from nas.run.interrupts import Stopped
from nas.run.progress import Reporter
from nas.run.run_folder import RunFolder, RunFolderError, read_json, write_json
from nas.run.saved_experiment import kept_experiment, read_experiment, refuse_changes
from nas.run_session import RunSession
from nas.search.predictor_report import PredictorReport, report_predictors
from nas.search.strategy import make_strategy
from nas.search_loop import history_of, measure_references, search
from nas.training.train_supernet import Preparation
from nas.workers.handover import open_artifacts, send_supernet
from supernets.data.data import TaskData
from supernets.families.super_network import WEIGHTS_FILE
from supernets.load import load_data


def run(
    experiment: Experiment,
    folder: RunFolder,
    reporter: Reporter,
    workers: int | None = None,
    latency_elsewhere: bool = False,
) -> Front:
    """Tune, search, validate, export and report; skips what is there already.

    workers: processes that evaluate candidates; 0 leaves that to `simqnas worker` on other
    machines; without a number this process does it, or one of its own where `isolate` asks for it.
    latency_elsewhere: leave latency to `simqnas worker --measure latency` on the target device.

    Raises ValueError for what a user can put right, Stopped when asked to stop; nothing already
    computed is lost, and of a run that was stopped there is a report.
    """
    if (workers == 0 or latency_elsewhere) and experiment.storage is None:
        raise StorageError(
            "--workers remote, --measure accuracy: workers elsewhere need a database to meet in; "
            "give --storage postgresql://user@host/name"
        )
    reporter.say(f"target: {experiment.target.target().execution_provider}")
    refuse_changes(experiment, folder)
    if experiment.storage is not None:
        _refuse_unreachable_places(experiment, folder)
    data = load_data(experiment.data, experiment.model)
    text = dump_experiment(kept_experiment(experiment))
    if not (folder.experiment.exists() and folder.experiment.read_text(encoding="utf-8") == text):
        _refuse_impossible(experiment, data, folder)
    with folder.locked(), storage_errors(experiment.storage, folder.journal):
        write_atomically(folder.experiment, text)
        torch.manual_seed(experiment.seed)
        session = RunSession.prepare(experiment, folder, data, reporter)
        try:
            session.ledger.note(latency="elsewhere" if latency_elsewhere else "here")
            return _measure(session, reporter, workers)
        except Stopped:
            _report_unfinished(session)
            raise


def assist(experiment: Experiment, folder: RunFolder, reporter: Reporter) -> None:
    """Help to train, as a process of torchrun other than the leading one, which does the rest."""
    data = load_data(experiment.data, experiment.model)
    torch.manual_seed(experiment.seed)
    Preparation(experiment, data, folder, reporter).tune()


def _refuse_unreachable_places(experiment: Experiment, folder: RunFolder) -> None:
    """Raise ValueError, before hours of training, for a database or store that cannot be used."""
    open_storage(experiment.storage, folder.journal)
    if experiment.artifacts is not None:
        open_artifacts(experiment, folder).check()


def _refuse_impossible(experiment: Experiment, data: TaskData, folder: RunFolder) -> None:
    """Raise ValueError for everything that can be found out before something is trained."""
    if not (folder.supernet / WEIGHTS_FILE).exists():
        for _ in check(experiment, data):
            pass


def _measure(session: RunSession, reporter: Reporter, workers: int | None) -> Front:
    """Everything after preparation."""
    experiment, folder, ledger = session.experiment, session.folder, session.ledger
    claim_study(ledger, experiment)
    if session.latency_queue is not None:
        ledger.note(finished=False)
    ledger.recover()
    if workers == 0:
        ledger.note(open=True, supernet=send_supernet(experiment, folder))
    with session.executor(workers) as executor:
        metrics = measure_references(ledger, session.references, experiment, executor, reporter)
        problem = session.problem(metrics)
        strategy = make_strategy(problem, experiment.search, experiment.seed)
        search(ledger, problem, strategy, experiment, executor, reporter)
    if workers == 0:
        ledger.note(open=False)
    evaluations = ledger.evaluations()
    front = read_front(folder)
    if front is None or not _is_current(front, len(evaluations), session):
        history = history_of(evaluations, problem)
        predictors = report_predictors(problem, history, experiment.seed)
        write_json(folder.predictors, [p.to_json() for p in predictors])
        front = session.validate(evaluations, reporter)
        write_json(folder.front, front.to_json())
    if session.latency_queue is not None:
        ledger.note(finished=True)
    _write_reports(experiment, folder, front, evaluations, finished=True)
    _clear_parcels(session)
    return front


def _clear_parcels(session: RunSession) -> None:
    """Remove what was on its way to other machines; the next start sends what it needs anew."""
    if session.latency_queue is not None:
        session.latency_queue.clear_all()
    sent = session.ledger.state.supernet
    if sent:
        open_artifacts(session.experiment, session.folder).delete(sent.values())


def _is_current(front: Front, evaluations: int, session: RunSession) -> bool:
    """Whether nothing was measured, and no setting of the front changed, since it was taken.

    A setting that was not known then had what is its default now.
    """
    settings = session.front_settings
    taken = {name: front.conditions.get(name) for name in settings}
    try:
        then = Experiment.model_validate(session.experiment.model_dump(mode="json") | taken)
    except ValidationError:
        return False
    same = then.model_dump(mode="json", include=set(settings)) == settings
    return same and front.evaluations == evaluations


def _report_unfinished(session: RunSession) -> None:
    """Write the report of what is known, once there is something to compare with."""
    evaluations = session.ledger.evaluations()
    if sum(e.role == "reference" and e.failure is None for e in evaluations) == len(
        session.references
    ):
        front = provisional_front(evaluations, session.experiment)
        _write_reports(session.experiment, session.folder, front, evaluations, finished=False)


def read_front(folder: RunFolder) -> Front | None:
    """The validated front, None before there is one or when a model of it is missing or cut off."""
    if not folder.front.exists():
        return None
    front = Front.from_json(read_json(folder.front))
    sizes = {folder.model(model.name) / "model.onnx": model.size_bytes for model in front.models}
    whole = all(path.exists() and path.stat().st_size == size for path, size in sizes.items())
    return front if whole else None


def write_report(folder: RunFolder) -> None:
    """Write the report of a run, finished or not.

    Raises RunFolderError before the references are measured.
    """
    folder.refuse_links()
    experiment = read_experiment(folder)
    evaluations = read_evaluations(experiment, folder)
    front = read_front(folder)
    finished = front is not None and front.evaluations == len(evaluations)
    if front is None or not finished:
        front = provisional_front(evaluations, experiment)
    _write_reports(experiment, folder, front, evaluations, finished)


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

    Without a key or an architecture: the best known candidate. A model that was polished is copied
    as it was validated. Raises ValueError for an unknown key, architecture or precision, and before
    the super-network is tuned.
    """
    experiment = read_experiment(folder)
    if not (folder.supernet / WEIGHTS_FILE).exists():
        raise RunFolderError(
            f"{folder.path}: the super-network is not tuned yet; `simqnas run` does that first"
        )
    data = load_data(experiment.data, experiment.model)
    session = RunSession.prepare(experiment, folder, data, reporter)
    if architecture is not None:
        candidate = _uniform(session, architecture, precision)
        name = f"{architecture}-{precision}"
    else:
        candidate = _known(session.ledger.evaluations(), experiment, key)
        name = candidate.key
    front = read_front(folder)
    if front is not None and name in {m.name for m in front.models if m.polished}:
        shutil.copytree(folder.model(name), out / name, dirs_exist_ok=True)
    else:
        session.exporter.write(candidate, out / name)
    return [out / name]


def _uniform(session: RunSession, architecture: str, precision: str) -> Candidate:
    space = session.builder.space
    genomes = {"largest": space.largest(), "smallest": space.smallest()}
    if architecture not in genomes:
        raise ValueError(f"--architecture {architecture}: allowed are {', '.join(genomes)}")
    allowed = [p.value for p in session.target.precisions]
    if precision not in allowed:
        raise ValueError(f"--precision {precision}: allowed are {', '.join(allowed)}")
    return session.builder.uniform(genomes[architecture], Precision(precision))


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
