"""How a worker finds its run, without torch: a small board measures latency only."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from hardware.files import cache_folder
from nas.experiment.load import load_experiment
from nas.experiment.schema import Experiment
from nas.ledger.storage import StorageError, storage_errors
from nas.ledger.study import open_ledger
from nas.run.interrupts import POLL_S, StopRequest
from nas.run.progress import Reporter
from nas.run.run_folder import RunFolder
from nas.run.saved_experiment import at_storage, read_experiment
from nas.workers.handover import open_latency_queue
from supernets.space.space import SearchSpace


def locate(place: Path) -> tuple[Experiment, RunFolder]:
    """The experiment of a run folder or file, and the folder that this machine has for it."""
    if place.is_dir():
        return read_experiment(RunFolder(place)), RunFolder(place)
    experiment = at_storage(load_experiment(place))
    return experiment, RunFolder(cache_folder() / "workers" / experiment.name)


def require_database(experiment: Experiment) -> None:
    """Raise StorageError unless workers of other machines can reach the ledger."""
    if experiment.storage is None:
        raise StorageError(
            f"{experiment.name}: its ledger is a file of one machine; use `simqnas run "
            "--workers N` there, or start the run with --storage postgresql://user@host/name"
        )


def wait(reporter: Reporter, request: StopRequest, done: Callable[[], bool], what: str) -> None:
    """Return when `done`; says once what is waited for. Raises Stopped when asked to stop."""
    if not done():
        reporter.say(f"waiting {what}")
    while not done():
        request.stop_if_asked()
        time.sleep(POLL_S)


def measure_latency(place: Path, reporter: Reporter, request: StopRequest) -> int:
    """Measure the models of a run on this device until its driver is done; returns how many.

    Needs neither torch nor the data set. Raises Stopped when asked to stop; ValueError for what a
    user can put right.
    """
    experiment, folder = locate(place)
    require_database(experiment)
    folder.path.mkdir(parents=True, exist_ok=True)
    measured = 0
    with storage_errors(experiment.storage, folder.journal):
        queue = open_latency_queue(experiment, folder)
        ledger = open_ledger(experiment, folder, SearchSpace(()))
        reporter.say("ready for models")
        while not ledger.state.finished:
            key = queue.serve_one()
            if key is None:
                time.sleep(POLL_S)
            else:
                measured += 1
                reporter.say(f"{measured}: {key}")
            request.stop_if_asked()
    return measured
