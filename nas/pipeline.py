"""A run from experiment to report; every stage continues what the run folder already holds."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import torch
from pydantic import ValidationError

from hardware.formats.registry import find_format
from nas.delivery.results import Front, read_front
from nas.delivery.selection import provisional_front
from nas.dry_run import admit
from nas.evaluation.baselines import NotMeasuredError
from nas.evaluation.candidate import Candidate
from nas.evaluation.record import Evaluation
from nas.experiment.schema import Experiment
from nas.ledger.storage import storage_errors
from nas.ledger.study import claim_study
from nas.ledger.warm_start import inherit, opened_from
from nas.recipe.facts import Facts
from nas.recipe.found import Finder
from nas.recipe.resolution import continued, keep, resolved
from nas.reporting.report import write_reports
from nas.run.data_record import account_of, record_of
from nas.run.interrupts import Stopped
from nas.run.pace import Pace, PacedReporter
from nas.run.progress import Reporter
from nas.run.run_folder import RunFolder, RunFolderError, write_json
from nas.run.saved_experiment import is_written, read_experiment
from nas.run_session import RunSession
from nas.search.effects import effects_of_genes
from nas.search.predictor_report import report_predictors
from nas.search.problem import SearchProblem
from nas.search.surrogate import Surrogate
from nas.search_loop import SearchLoop, history_of
from nas.training.train_supernet import Preparation
from nas.workers.handover import open_artifacts, send_supernet
from supernets.data.data import TaskData
from supernets.load import load_data


def run(
    experiment: Experiment,
    folder: RunFolder,
    reporter: Reporter,
    workers: int | None = None,
    latency_elsewhere: bool = False,
    source: RunFolder | None = None,
) -> Front:
    """Tune, measure, search, validate, export and report; skips what is there already.

    workers: processes that evaluate candidates; 0 leaves that to `simqnas worker` on other
    machines; without a number this process does it, or one of its own where `isolate` asks for it.
    latency_elsewhere: leave latency to `simqnas worker --measure latency` on the target device.
    source: a run whose super-network and scores this one starts from.

    Raises ValueError for what a user can put right, Stopped when asked to stop; nothing already
    computed is lost, and of a run that was stopped there is a report.
    """
    reporter.say(f"target: {experiment.target.execution_provider}")
    pace = Pace.read(folder.pace)
    reporter = PacedReporter(reporter, pace)
    if source is not None:
        experiment = opened_from(experiment, source)
    needs_database = workers == 0 or latency_elsewhere
    data, recipe = admit(experiment, folder, needs_database=needs_database, pace=pace)
    experiment = recipe.experiment
    told = () if is_written(experiment, folder) else recipe.lines()
    account = account_of(experiment, data)
    for line in (*account.lines(), *data.notes, *told):
        reporter.say(line)
    with folder.locked(), storage_errors(experiment.storage, folder.journal):
        keep(recipe, folder)
        record = record_of(experiment, data)
        replace(record, account=account).keep(folder)
        if source is not None:
            reporter.say(inherit(experiment, record, folder, source))
        torch.manual_seed(experiment.seed)
        experiment = Finder(recipe, data, folder, reporter, pace).tune().experiment
        session = tune(experiment, folder, data, reporter, pace)
        session.ledger.note(latency="elsewhere" if latency_elsewhere else "here")
        try:
            with measuring(session, workers) as loop:
                problem = session.problem(loop.measure_references(session.references))
                loop.search(problem)
            front = validate_and_export(session, problem)
        except Stopped:
            pace.keep()
            with suppress(NotMeasuredError):
                write_reports(experiment, folder, session.ledger.evaluations())
            raise
        pace.keep()
        write_reports(experiment, folder, session.ledger.evaluations())
        return front


def assist(experiment: Experiment, folder: RunFolder, reporter: Reporter) -> None:
    """Help to train, as a process of torchrun other than the leading one, which does the rest."""
    experiment = continued(experiment, folder)
    data = load_data(experiment.data, experiment.model, experiment.task)
    experiment = resolved(experiment, folder, Facts.of(experiment, data)).experiment
    torch.manual_seed(experiment.seed)
    Preparation(experiment, data, folder, reporter).tune()


def tune(
    experiment: Experiment,
    folder: RunFolder,
    data: TaskData,
    reporter: Reporter,
    pace: Pace | None = None,
) -> RunSession:
    """Tune the super-network and open the run's ledger, which must be this experiment's."""
    torch.manual_seed(experiment.seed)
    session = RunSession.prepare(experiment, folder, data, reporter, pace)
    claim_study(session.ledger, experiment)
    record = record_of(experiment, data)
    record.refuse_other(session.ledger.state.data, f"study {experiment.name!r}")
    session.ledger.note(data=record.summary())
    return session


@contextmanager
def measuring(session: RunSession, workers: int | None) -> Iterator[SearchLoop]:
    """Have candidates evaluated, by `workers` as in `run`, while the context is open."""
    experiment, ledger = session.experiment, session.ledger
    if session.latency_queue is not None:
        ledger.note(finished=False)
    ledger.recover()
    if workers == 0:
        ledger.note(open=True, supernet=send_supernet(experiment, session.folder))
    with session.executor(workers) as executor:
        known = [entry.candidate for entry in session.known.values()]
        yield SearchLoop(
            experiment,
            ledger,
            executor,
            session.reporter,
            session.pace,
            known,
            session.fine_tuner,
            session.lenient,
        )
    if workers == 0:
        ledger.note(open=False)


def validate_and_export(session: RunSession, problem: SearchProblem) -> Front:
    """Export the front and measure what was written, unless the run folder has it."""
    folder, evaluations = session.folder, session.ledger.evaluations()
    front = read_front(folder)
    if front is None or not _is_current(front, len(evaluations), session):
        history = history_of(evaluations, problem)
        surrogate = Surrogate.fit(problem, history, session.experiment.seed)
        predictors = report_predictors(surrogate, history)
        write_json(folder.predictors, [p.to_json() for p in predictors])
        write_json(folder.effects, effects_of_genes(surrogate, history.good.genomes))
        front = session.validate(evaluations)
        write_json(folder.profile, session.profile(front.models))
        write_json(folder.front, front.to_json())
    if session.latency_queue is not None:
        session.ledger.note(finished=True)
        session.latency_queue.clear_all()
    if sent := session.ledger.state.supernet:  # the next start sends what it needs anew
        open_artifacts(session.experiment, folder).delete(sent.values())
    return front


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
    if not folder.is_tuned:
        raise RunFolderError(
            f"{folder.path}: the super-network is not tuned yet; `simqnas run` does that first"
        )
    data = load_data(experiment.data, experiment.model, experiment.task)
    record_of(experiment, data).refuse_changes(folder)
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
    allowed = [entry.name for entry in session.builder.target.runs_on.formats]
    if precision not in allowed:
        raise ValueError(f"--precision {precision}: allowed are {', '.join(allowed)}")
    return session.builder.uniform(genomes[architecture], find_format(precision))


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
