"""A worker: takes waiting candidates from a run's ledger and evaluates them."""

from __future__ import annotations

import os
from pathlib import Path

from nas.experiment.given import filled
from nas.experiment.schema import Experiment
from nas.ledger.storage import storage_errors
from nas.ledger.study import compare_study, open_ledger
from nas.run.data_record import record_of
from nas.run.interrupts import StopRequest
from nas.run.progress import Reporter
from nas.run.saved_experiment import FIXED, LOCAL
from nas.run_session import RunSession
from nas.workers.executors import DRIVER_VARIABLE, serve
from nas.workers.handover import fetch_supernet
from nas.workers.latency_worker import locate, require_database, wait
from supernets.load import load_data
from supernets.space.space import SearchSpace


def work(place: Path, reporter: Reporter, request: StopRequest) -> int:
    """Evaluate candidates of a run until its driver says that it is done.

    place: the run folder, where this machine sees it; else the experiment file, and everything
    needed comes from the database and the artifact store.

    Returns how many were evaluated. Raises Stopped when asked to stop, after the candidate under
    way; ValueError for what a user can put right.
    """
    driver = os.environ.get(DRIVER_VARIABLE)
    experiment, folder = locate(place)
    if driver is None:
        require_database(experiment)
    with storage_errors(experiment.storage, folder.journal):
        if place.is_dir():
            template = folder.supernet / "template.onnx"
            wait(reporter, request, template.exists, "for the super-network")
        else:
            ledger = open_ledger(experiment, folder, SearchSpace(()))
            wait(reporter, request, lambda: bool(ledger.state.supernet), "for the super-network")
            if not ledger.state.open:  # its files are removed
                reporter.say("the run is done")
                return 0
            experiment = filled(experiment, Experiment.model_validate(ledger.state.experiment))
            fetch_supernet(ledger.state.supernet, experiment, folder)
        data = load_data(experiment.data, experiment.model, experiment.task)
        session = RunSession.prepare(experiment, folder, data, reporter)
        if driver is None:
            record = record_of(experiment, data)
            record.refuse_other(session.ledger.state.data, f"study {experiment.name!r}")
        compare_study(
            session.ledger, experiment, tuple(name for name in FIXED if name not in LOCAL)
        )
        reporter.say("ready for candidates")
        return serve(session.ledger, session.evaluator, request, driver)
