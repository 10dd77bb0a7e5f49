"""A queue of trials that several processes and machines take work from."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from threading import Event, Thread

import optuna
from optuna.exceptions import ExperimentalWarning, UpdateFinishedTrialError
from optuna.storages import BaseStorage, RDBStorage
from optuna.trial import FrozenTrial, Trial, TrialState

from nas.ledger.storage import HEARTBEAT_S

UNSIGNED = timedelta(seconds=60)
"""After this long, a claimed trial without its worker's name belongs to a dead one."""


class TrialQueue:
    """The waiting and running trials of a study, claimed one by one and missed when their worker
    dies: at once on this machine, by Optuna's heartbeats in a database on others."""

    def __init__(self, study: optuna.Study, storage: BaseStorage):
        self.study, self._storage = study, storage
        self._claimed: set[int] = set()
        self._seen_waiting: list[FrozenTrial] = []

    @property
    def in_database(self) -> bool:
        """Whether other machines may meet here."""
        return isinstance(self._storage, RDBStorage)

    def trials(self, *states: TrialState) -> list[FrozenTrial]:
        """All trials, or those in one of some states. They must not be changed."""
        return self.study.get_trials(deepcopy=False, states=states or None)

    def claim(self) -> Trial | None:
        """Take the next waiting trial for this process, None when nothing waits."""
        while waiting := self._next_waiting():
            if self._claim(waiting):
                trial = Trial(self.study, waiting._trial_id)
                self._claimed.add(waiting.number)
                trial.set_user_attr("worker", signature())
                return trial
        return None

    def _next_waiting(self) -> FrozenTrial | None:
        """One that was waiting at the last look, after another look if those are used up.

        Each process has an order of its own, so that two seldom want the same.
        """
        if not self._seen_waiting:
            waiting = self.trials(TrialState.WAITING)
            self._seen_waiting = sorted(waiting, key=lambda t: hash((os.getpid(), t.number)))
        return self._seen_waiting.pop() if self._seen_waiting else None

    def _claim(self, waiting: FrozenTrial) -> bool:
        """Whether this process got the trial; another may have been quicker."""
        if isinstance(self._storage, RDBStorage):
            # Before the claim: Optuna never gives up on a running trial without a heartbeat.
            self._storage.record_heartbeat(waiting._trial_id)
        try:
            return self._storage.set_trial_state_values(waiting._trial_id, TrialState.RUNNING)
        except UpdateFinishedTrialError:
            return False

    @contextmanager
    def heartbeat(self, trial: Trial) -> Iterator[None]:
        """Tell the database every now and then that a claimed trial is being worked on."""
        if not isinstance(self._storage, RDBStorage):
            yield
            return
        done = Event()
        thread = Thread(target=_beat, args=(self._storage, trial._trial_id, done))
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def fail_stale(self) -> None:
        """Have Optuna give trials without a heartbeat to other workers."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            optuna.storages.fail_stale_trials(self.study)

    def dead(self, *, starting: bool = False) -> list[FrozenTrial]:
        """Running trials whose worker is known to be gone; more are at the start of a driver."""
        running = self.trials(TrialState.RUNNING)
        return [trial for trial in running if self._is_dead(trial, starting=starting)]

    def _is_dead(self, trial: FrozenTrial, *, starting: bool) -> bool:
        """Whether who claimed a running trial is gone, as far as this machine can know.

        Of other machines' workers a database's heartbeats tell; a journal has no others.
        """
        if trial.number in self._claimed:
            return False
        host, _, process = trial.user_attrs.get("worker", "").rpartition(":")
        if not host:
            claimed = trial.datetime_start or datetime.now()
            return starting or datetime.now() - claimed > UNSIGNED
        if host != os.uname().nodename:
            return starting and not self.in_database
        return int(process) == os.getpid() or not _is_alive(int(process))


def signature() -> str:
    """Which process this is."""
    return f"{os.uname().nodename}:{os.getpid()}"


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _beat(storage: RDBStorage, trial_id: int, done: Event) -> None:
    while not done.wait(storage.get_heartbeat_interval() or HEARTBEAT_S):
        storage.record_heartbeat(trial_id)
