"""A worker: takes waiting candidates from a run's ledger and evaluates them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from nas.crew import DRIVER_VARIABLE, POLL_S, serve
from nas.lab import Lab
from nas.progress import Reporter
from nas.records import FIXED, LOCAL, compare_study, read_experiment
from nas.run_folder import RunFolder
from nas.stop import StopRequest
from nas.storage import StorageError, storage_errors
from supernets.load import load_data


def work(place: Path, reporter: Reporter, request: StopRequest) -> int:
    """Evaluate candidates of a run until its driver says that it is done.

    Returns how many were evaluated. Raises Stopped when asked to stop, after the candidate under
    way; ValueError for what a user can put right.
    """
    driver = os.environ.get(DRIVER_VARIABLE)
    folder = RunFolder(place)
    experiment = read_experiment(folder)
    if driver is None and experiment.storage is None:
        raise StorageError(
            f"{place}: its ledger is a file of one machine; use `simqnas run --workers N` there, "
            "or start the run with --storage postgresql://user@host/name"
        )
    wait(reporter, request, (folder.supernet / "template.onnx").exists, "for the super-network")
    with storage_errors(experiment.storage, folder.journal):
        data = load_data(experiment.data, experiment.model)
        lab = Lab.prepare(experiment, folder, data, reporter)
        compare_study(lab.ledger, experiment, tuple(name for name in FIXED if name not in LOCAL))
        reporter.say("ready for candidates")
        return serve(lab.ledger, lab.evaluator, request, driver)


def wait(reporter: Reporter, request: StopRequest, done: Callable[[], bool], what: str) -> None:
    """Return when `done`; says once what is waited for. Raises Stopped when asked to stop."""
    if not done():
        reporter.say(f"waiting {what}")
    while not done():
        request.check()
        time.sleep(POLL_S)
