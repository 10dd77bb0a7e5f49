"""Latency measured on another device: the models travel there, what was seen of their runs back.

Needs Optuna and ONNX Runtime only: a small board has no torch.
"""

from __future__ import annotations

import io
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.storages import BaseStorage
from optuna.trial import Trial, TrialState, create_trial

from hardware.latency import METHOD, Rounds, run_times
from hardware.session import Arrays, open_session
from hardware.target import Target
from nas.ledger.artifact_store import ArtifactStore
from nas.ledger.storage import retry
from nas.ledger.trial_queue import TrialQueue
from nas.run.interrupts import POLL_S
from nas.run.progress import describe

TARGET = ("provider", "threads", "batch_size", "sequence_length", "image_size")


class LatencyQueue:
    """Jobs for `simqnas worker --measure latency`, an Optuna study beside the run's own."""

    def __init__(self, study: optuna.Study, storage: BaseStorage, artifacts: ArtifactStore):
        self._study, self._artifacts = study, artifacts
        self._queue = TrialQueue(study, storage)

    @classmethod
    def open(cls, storage: BaseStorage, name: str, artifacts: ArtifactStore) -> LatencyQueue:
        """Create the study `<name>.latency`, or continue it."""
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = optuna.create_study(
            storage=storage,
            sampler=optuna.samplers.RandomSampler(),  # as in the ledger
            study_name=f"{name}.latency",
            load_if_exists=True,
        )
        return cls(study, storage, artifacts)

    def submit(
        self,
        key: str,
        models: Mapping[str, bytes],
        inputs: Mapping[str, Arrays],
        target: Target,
        repeats: int,
    ) -> None:
        """Ask for models to be run in turn, unless that was asked before."""
        if self._find(key) is not None:
            return
        job = {
            "key": key,
            "models": {name: self._artifacts.put(content) for name, content in models.items()},
            "inputs": {name: self._artifacts.put(_packed(feed)) for name, feed in inputs.items()},
            "target": {name: getattr(target, name) for name in TARGET},
            "repeats": repeats,
            "method": METHOD,
        }
        self._study.add_trial(create_trial(state=TrialState.WAITING, user_attrs=job))

    def rounds(self, key: str) -> tuple[Rounds, Mapping[str, Any]]:
        """Wait for a job; the runs, and the device. Raises ValueError if it failed."""
        while True:
            attrs = self._find(key) or {}
            if "failure" in attrs:
                raise ValueError(f"latency on the other device: {attrs['failure']}")
            if "rounds" in attrs:
                return Rounds.from_json(attrs["rounds"]), attrs["device"]
            self._queue.fail_stale()
            for trial in self._queue.dead():
                self._study.tell(trial.number, state=TrialState.FAIL)
                retry(self._study, trial)
            time.sleep(POLL_S)

    def clear(self, key: str, model: str) -> None:
        """Remove the file of one model of a finished job."""
        attrs = self._find(key)
        assert attrs is not None, "only finished jobs are cleared"
        self._artifacts.delete([attrs["models"][model]])

    def clear_all(self) -> None:
        """Remove every file that was sent to be measured; nothing may be under way."""
        jobs = [trial.user_attrs for trial in self._queue.trials()]
        sent = {
            name for job in jobs for kind in ("models", "inputs") for name in job[kind].values()
        }
        self._artifacts.delete(sent)

    def _find(self, key: str) -> dict[str, Any] | None:
        """The attributes of the newest trial of a job, None if nobody asked for it yet.

        One whose latency was taken in another way was not asked for.
        """
        jobs = [trial.user_attrs for trial in self._queue.trials()]
        found = [job for job in jobs if (job["key"], job.get("method")) == (key, METHOD)]
        return found[-1] if found else None

    def serve_one(self) -> str | None:
        """Measure the next job on this device; returns its key, None when nothing waits."""
        trial = self._queue.claim()
        if trial is None:
            return None
        job = trial.user_attrs
        try:
            with self._queue.heartbeat(trial):
                rounds = self._measure(job)
        except Exception as error:  # a model that breaks here must not stop the worker
            trial.set_user_attr("failure", describe(error))
            self._study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)
        else:
            self._record(trial, rounds)
        return str(job["key"])

    def _measure(self, job: Mapping[str, Any]) -> Rounds:
        target = Target(**job["target"])
        get = self._artifacts.get
        sessions = {n: open_session(get(name), target) for n, name in job["models"].items()}
        inputs = {n: _unpacked(get(name)) for n, name in job["inputs"].items()}
        return run_times(sessions, inputs, repeats=job["repeats"])

    def _record(self, trial: Trial, rounds: Rounds) -> None:
        target = Target(**trial.user_attrs["target"])
        trial.set_user_attr("device", target.describe())
        trial.set_user_attr("rounds", rounds.to_json())
        first = rounds.latency(next(iter(rounds.seconds)))
        self._study.tell(trial, first.median_ms, skip_if_finished=True)


def _packed(feed: Arrays) -> bytes:
    """Inputs as an .npz file."""
    content = io.BytesIO()
    np.savez(content, allow_pickle=False, **feed)
    return content.getvalue()


def _unpacked(content: bytes) -> dict[str, NDArray[np.generic]]:
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}
