"""The ledger: every evaluation is a trial of an Optuna study, written the moment it is known."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.exceptions import ExperimentalWarning, UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from nas.evaluation.candidate import Candidate
from nas.evaluation.record import Details, Evaluation, Measured, Role
from nas.experiment.metrics import Metric
from nas.ledger.run_state import RunState
from nas.ledger.storage import retry
from nas.ledger.trial_queue import TrialQueue
from supernets.space.space import SearchSpace

QUEUED = ("key", "role", "round", "seed", "candidate")
"""Attributes that a trial has from the start; the others are added by who evaluates it."""


class LedgerError(ValueError):
    """The ledger holds something else than asked for."""


@dataclass(frozen=True)
class Ticket:
    """A candidate taken from the queue; give it back with `finish` or `fail`."""

    candidate: Candidate
    role: Role
    round: int
    trial: Trial


class Ledger:
    """Queue and record of evaluations over one Optuna study.

    Genes are the trial's parameters and objectives its values, so that Optuna's own tools read it.
    """

    def __init__(
        self,
        study: optuna.Study,
        storage: BaseStorage,
        space: SearchSpace,
        objectives: Sequence[Metric],
        seed: int = 0,
    ):
        self.study, self.queue, self._seed = study, TrialQueue(study, storage), seed
        self._objectives = tuple(objectives)
        self._distributions = {g.name: CategoricalDistribution(g.choices) for g in space.genes}
        self._read: dict[int, Evaluation] = {}

    @classmethod
    def open(
        cls,
        storage: BaseStorage,
        name: str,
        space: SearchSpace,
        objectives: Sequence[Metric],
        seed: int = 0,
    ) -> Ledger:
        """Create the study, or continue the one of this name."""
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        directions = [objective.direction for objective in objectives]
        study = optuna.create_study(
            storage=storage,
            # Candidates come from our strategies; Optuna's own would read all trials at each claim.
            sampler=optuna.samplers.RandomSampler(),
            study_name=name,
            directions=directions,
            load_if_exists=True,
        )
        names = [objective.name for objective in objectives]
        with warnings.catch_warnings():
            # Metric names are what optuna-dashboard shows; Optuna calls the feature experimental.
            warnings.simplefilter("ignore", ExperimentalWarning)
            if study.metric_names is None:
                study.set_metric_names(names)
            elif study.metric_names != names:
                raise LedgerError(
                    f"study {name!r} has the objectives {', '.join(study.metric_names)}, this "
                    f"experiment {', '.join(names)}; give the experiment another name"
                )
        return cls(study, storage, space, objectives, seed)

    def enqueue(self, candidates: Sequence[Candidate], role: Role, round_number: int) -> None:
        """Add waiting candidates; one that is already in the ledger is left as it is."""
        known = {trial.user_attrs["key"] for trial in self.queue.trials()}
        for candidate in candidates:
            if candidate.key not in known:
                known.add(candidate.key)
                attrs = {"key": candidate.key, "role": role, "round": round_number}
                attrs |= {"seed": self._seed, "candidate": candidate.to_json()}
                self._add_waiting(candidate, attrs)

    def take(self) -> Ticket | None:
        """Claim the next waiting candidate, or None when nothing waits."""
        trial = self.queue.claim()
        if trial is None:
            return None
        attrs = trial.user_attrs
        candidate = Candidate.from_json(attrs["candidate"])
        if self.queue.in_database:
            for name, distribution in self._shown(candidate).items():
                trial.suggest_categorical(name, distribution.choices)  # as it was enqueued
        return Ticket(candidate, attrs["role"], attrs["round"], trial)

    def finish(self, ticket: Ticket, measured: Measured) -> None:
        """Record the metrics of a claimed candidate, unless it was given to somebody else."""
        with suppress(UpdateFinishedTrialError):  # taken for dead; the other one's result counts
            ticket.trial.set_user_attr("metrics", dict(measured.metrics))
            ticket.trial.set_user_attr("details", measured.details.to_json())
            values = [measured.metrics[o.name] for o in self._objectives]
            self.study.tell(ticket.trial, values, skip_if_finished=True)

    def fail(self, ticket: Ticket, reason: str) -> None:
        """Record that a claimed candidate cannot be evaluated."""
        with suppress(UpdateFinishedTrialError):  # as in `finish`
            ticket.trial.set_user_attr("failure", reason)
            self.study.tell(ticket.trial, state=TrialState.FAIL, skip_if_finished=True)

    def recover(self) -> None:
        """Settle what vanished processes had claimed: record what was measured, requeue the rest.

        For the start of a driver: however often it was killed, its candidates are tried again.
        """
        for trial in self.queue.dead(starting=True):
            if not self._complete(trial):
                self.study.tell(trial.number, state=TrialState.FAIL)
        open_or_known = {
            t.user_attrs["key"]
            for t in self.queue.trials()
            if t.state != TrialState.FAIL or "failure" in t.user_attrs
        }
        for trial in self.queue.trials(TrialState.FAIL):
            attrs = {name: trial.user_attrs[name] for name in QUEUED}
            if attrs["key"] not in open_or_known:
                open_or_known.add(attrs["key"])
                self._add_waiting(Candidate.from_json(attrs["candidate"]), attrs)

    def set_aside(self) -> None:
        """Take what still waits out of the queue; the next start's `recover` puts it back."""
        while (trial := self.queue.claim()) is not None:
            self.study.tell(trial, state=TrialState.FAIL)

    def settle(self) -> None:
        """Give candidates whose workers died to others, a few times; then they have failed."""
        self.queue.fail_stale()
        for trial in self.queue.dead():
            if not self._complete(trial):
                self.study.tell(trial.number, state=TrialState.FAIL)
                retry(self.study, trial)

    def _complete(self, trial: FrozenTrial) -> bool:
        """Tell the values of a trial that was measured but not told; whether it was."""
        attrs = trial.user_attrs
        if "details" not in attrs:  # the last attribute that `finish` writes
            return False
        self.study.tell(trial.number, [attrs["metrics"][o.name] for o in self._objectives])
        return True

    def evaluations(self) -> list[Evaluation]:
        """Everything known so far, by round and key: an order that no interruption changes."""
        known = [
            self._evaluation(trial)
            for trial in self.queue.trials(TrialState.COMPLETE, TrialState.FAIL)
            if trial.state == TrialState.COMPLETE or "failure" in trial.user_attrs
        ]
        return sorted(known, key=lambda evaluation: (evaluation.round, evaluation.candidate.key))

    def queued(self, role: Role) -> int:
        """How many candidates of a role have been enqueued, whatever became of them."""
        return len(
            {t.user_attrs["key"] for t in self.queue.trials() if t.user_attrs["role"] == role}
        )

    @property
    def unfinished(self) -> int:
        """How many candidates wait or are being evaluated."""
        return len(self.queue.trials(TrialState.WAITING, TrialState.RUNNING))

    @property
    def last_round(self) -> int:
        """The newest round that has candidates, 0 before the first."""
        return max((trial.user_attrs["round"] for trial in self.queue.trials()), default=0)

    @property
    def state(self) -> RunState:
        """What the driver has written down of the run."""
        return RunState.from_attributes(self.study.user_attrs)

    def note(self, **changes: Any) -> None:
        """Write fields of the state down for all who see the ledger, where they differ."""
        replace(RunState(), **changes)  # a field that it does not have is our mistake
        known = self.study.user_attrs
        for name, value in changes.items():
            if name not in known or known[name] != value:
                self.study.set_user_attr(name, value)

    def _shown(self, candidate: Candidate) -> dict[str, CategoricalDistribution]:
        """What Optuna shows as parameters: all but a reference's precision beyond the space."""
        values = candidate.values
        return {n: d for n, d in self._distributions.items() if values.get(n) in d.choices}

    def _add_waiting(self, candidate: Candidate, attrs: dict[str, Any]) -> None:
        distributions = dict[str, BaseDistribution](self._shown(candidate))
        params = {name: candidate.values[name] for name in distributions}
        if self.queue.in_database:
            # Optuna writes every parameter as a row, after two queries: the many who take
            # candidates do that, not the one who adds them.
            self.study.enqueue_trial(params, user_attrs=attrs)
            return
        self.study.add_trial(
            create_trial(
                state=TrialState.WAITING,
                params=params,
                distributions=distributions,
                user_attrs=attrs,
            )
        )

    def _evaluation(self, trial: FrozenTrial) -> Evaluation:
        if trial.number not in self._read:
            attrs, finished = trial.user_attrs, trial.datetime_complete
            self._read[trial.number] = Evaluation(
                candidate=Candidate.from_json(attrs["candidate"]),
                metrics=attrs.get("metrics", {}),
                details=Details.from_json(attrs.get("details", {})),
                role=attrs["role"],
                round=attrs["round"],
                failure=attrs.get("failure"),
                finished_s=None if finished is None else finished.timestamp(),
            )
        return self._read[trial.number]
