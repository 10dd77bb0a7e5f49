"""Workers that meet in a real database."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from optuna.trial import TrialState

from nas.evaluation.candidate import Candidate
from nas.evaluation.record import Details, Measured
from nas.experiment.database_url import masked
from nas.experiment.metrics import find_metric
from nas.ledger import trial_queue as queue
from nas.ledger.ledger import Ledger
from nas.ledger.storage import StorageError, open_storage
from nas.run.interrupts import StopRequest
from nas.workers.executors import WorkerPool, serve
from supernets.space.space import Gene, SearchSpace
from tests.faults.postgres import PASSWORD, server
from tests.faults.victim import FORKED

CANDIDATES = 200
SPACE = SearchSpace(
    (Gene("depth", tuple(range(1, 21))), Gene("embed_dim", tuple(range(8, 168, 8))))
)
OBJECTIVES = (find_metric("accuracy"),)
VICTIM = 2


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    """URL of a fresh database."""
    with server() as url:
        yield url


def open_ledger(url: str) -> Ledger:
    """Heartbeats every second, so that a dead worker is missed after three."""
    storage = open_storage(url, Path("unused"), heartbeat_s=1)
    return Ledger.open(storage, "queue", SPACE, OBJECTIVES)


def work(url: str, folder: Path, number: int) -> None:
    """A worker that seems to be on another machine; the victim hangs in its third evaluation."""
    queue.signature = lambda: f"machine-{number}:1"
    log = folder / f"worker-{number}"

    def evaluate(candidate: Candidate) -> Measured:
        with log.open("a") as file:
            file.write(candidate.key + "\n")
        if number == VICTIM and len(log.read_text().splitlines()) == 3:
            time.sleep(600)
        metrics = {"accuracy": int(dict(candidate.architecture)["depth"]) / 100}
        return Measured(metrics, Details(target={"process": os.getpid()}))

    serve(open_ledger(url), evaluate, StopRequest())


def test_a_killed_worker_loses_nothing_and_nothing_is_done_twice(
    database: str, tmp_path: Path
) -> None:
    ledger = open_ledger(database)
    genomes = np.unique(SPACE.sample(2000, np.random.default_rng(0)), axis=0)[:CANDIDATES]
    candidates = [Candidate.from_genome(SPACE, genome) for genome in genomes]
    ledger.enqueue(candidates, "search", 1)
    workers = [
        FORKED.Process(target=work, args=(database, tmp_path, number)) for number in range(3)
    ]
    for worker in workers:
        worker.start()
    hanging = tmp_path / f"worker-{VICTIM}"

    def kill_when_hanging() -> None:
        if hanging.exists() and len(hanging.read_text().splitlines()) == 3:
            workers[VICTIM].kill()

    WorkerPool(tmp_path, 0).work_off(ledger, kill_when_hanging)
    ledger.note(open=False)
    for worker in workers:
        worker.join(60)
    known = {e.candidate.key: e for e in ledger.evaluations()}
    assert known.keys() == {candidate.key for candidate in candidates}
    assert all(e.failure is None for e in known.values())
    assert workers[VICTIM].exitcode == -9
    complete = ledger.study.get_trials(states=(TrialState.COMPLETE,))
    assert len(complete) == CANDIDATES
    assert all(t.params == known[t.user_attrs["key"]].candidate.values for t in complete)
    started = Counter(key for log in tmp_path.glob("worker-*") for key in log.read_text().split())
    lost = hanging.read_text().split()[2]
    assert started == Counter([*known, lost])


def test_a_wrong_password_is_told_without_the_password(database: str) -> None:
    wrong = database.replace(PASSWORD, "wrong-secret")
    with pytest.raises(StorageError, match="database failed") as caught:
        open_storage(wrong, Path("unused"))
    assert "wrong-secret" not in str(caught.value)
    assert masked(wrong).split("@")[1] in str(caught.value)
