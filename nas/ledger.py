"""The ledger: every evaluation is a trial of an Optuna study, written the moment it is known."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from nas.candidate import Candidate
from nas.objectives import Objective
from supernets.space import SearchSpace

Role = Literal["search", "reference"]


@dataclass(frozen=True)
class Evaluation:
    """What is known of one candidate: its metrics, or the reason there are none.

    metrics: one value per objective and any further measurement, units in the names.
    details: where the numbers come from (spread, target, versions, duration).
    """

    candidate: Candidate
    metrics: Mapping[str, float]
    details: Mapping[str, Any] = field(default_factory=dict)
    role: Role = "search"
    round: int = 0
    failure: str | None = None


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

    def __init__(self, study: optuna.Study, space: SearchSpace, objectives: Sequence[Objective]):
        self._study = study
        self._objectives = tuple(objectives)
        self._distributions = {g.name: CategoricalDistribution(g.choices) for g in space.genes}

    @classmethod
    def open(
        cls, storage: BaseStorage, name: str, space: SearchSpace, objectives: Sequence[Objective]
    ) -> Ledger:
        """Create the study, or continue the one of this name."""
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        if name in optuna.get_all_study_names(storage):
            study = optuna.load_study(study_name=name, storage=storage)
        else:
            directions = [objective.direction for objective in objectives]
            study = optuna.create_study(storage=storage, study_name=name, directions=directions)
        names = [objective.name for objective in objectives]
        with warnings.catch_warnings():
            # Metric names are what optuna-dashboard shows; Optuna calls the feature experimental.
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            if study.metric_names != names:
                study.set_metric_names(names)
        return cls(study, space, objectives)

    def enqueue(self, candidate: Candidate, role: Role, round_number: int) -> None:
        """Add a waiting candidate; one that is already in the ledger is left as it is."""
        if candidate.key in {trial.user_attrs["key"] for trial in self._trials()}:
            return
        attrs = {"key": candidate.key, "role": role, "round": round_number}
        self._add_waiting(candidate.values, {**attrs, "candidate": candidate.to_json()})

    def take(self) -> Ticket | None:
        """Claim the next waiting candidate, or None when nothing waits."""
        if not self._trials(TrialState.WAITING):
            return None
        trial = self._study.ask()
        attrs = trial.user_attrs
        return Ticket(Candidate.from_json(attrs["candidate"]), attrs["role"], attrs["round"], trial)

    def finish(
        self, ticket: Ticket, metrics: Mapping[str, float], details: Mapping[str, Any]
    ) -> None:
        """Record the metrics of a claimed candidate."""
        ticket.trial.set_user_attr("metrics", dict(metrics))
        ticket.trial.set_user_attr("details", dict(details))
        self._study.tell(ticket.trial, [metrics[o.name] for o in self._objectives])

    def fail(self, ticket: Ticket, reason: str) -> None:
        """Record that a claimed candidate cannot be evaluated."""
        ticket.trial.set_user_attr("failure", reason)
        self._study.tell(ticket.trial, state=TrialState.FAIL)

    def recover(self) -> None:
        """Settle what a killed process had claimed: record it if it was measured, else requeue it.

        Call it only while no other process works on the study.
        """
        settled = {t.user_attrs["key"] for t in self._trials(TrialState.WAITING)}
        for trial in self._trials(TrialState.RUNNING):
            attrs = trial.user_attrs
            if "details" in attrs:  # the last attribute `finish` writes before it tells the values
                values = [attrs["metrics"][objective.name] for objective in self._objectives]
                self._study.tell(trial.number, values)
                continue
            if attrs["key"] not in settled:
                kept = {name: attrs[name] for name in ("key", "role", "round", "candidate")}
                self._add_waiting(trial.params, kept)
            self._study.tell(trial.number, state=TrialState.FAIL)

    def evaluations(self) -> list[Evaluation]:
        """Everything known so far, by round and key: an order that no interruption changes."""
        known = [
            self._evaluation(trial)
            for trial in self._trials(TrialState.COMPLETE, TrialState.FAIL)
            if trial.state == TrialState.COMPLETE or "failure" in trial.user_attrs
        ]
        return sorted(known, key=lambda evaluation: (evaluation.round, evaluation.candidate.key))

    def queued(self, role: Role) -> int:
        """How many candidates of a role have been enqueued, whatever became of them."""
        return len({t.user_attrs["key"] for t in self._trials() if t.user_attrs["role"] == role})

    @property
    def last_round(self) -> int:
        """The newest round that has candidates, 0 before the first."""
        return max((trial.user_attrs["round"] for trial in self._trials()), default=0)

    def _add_waiting(self, params: Mapping[str, Any], attrs: dict[str, Any]) -> None:
        # A reference may hold a precision that the space does not; Optuna then shows no parameter.
        distributions: dict[str, BaseDistribution] = {
            name: distribution
            for name, distribution in self._distributions.items()
            if params.get(name) in distribution.choices
        }
        self._study.add_trial(
            create_trial(
                state=TrialState.WAITING,
                params={name: params[name] for name in distributions},
                distributions=distributions,
                user_attrs=attrs,
            )
        )

    def _trials(self, *states: TrialState) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False, states=states or None)

    @staticmethod
    def _evaluation(trial: FrozenTrial) -> Evaluation:
        attrs = trial.user_attrs
        return Evaluation(
            candidate=Candidate.from_json(attrs["candidate"]),
            metrics=attrs.get("metrics", {}),
            details=attrs.get("details", {}),
            role=attrs["role"],
            round=attrs["round"],
            failure=attrs.get("failure"),
        )


def open_storage(url: str | None, journal: Path) -> BaseStorage:
    """Open a database URL, or the journal file of a run folder when there is none."""
    if url is not None:
        return RDBStorage(url)
    cut_torn_tail(journal)
    return JournalStorage(JournalFileBackend(str(journal)))


def cut_torn_tail(journal: Path) -> None:
    """Drop a last line that a crash left without its newline; the next append would corrupt it."""
    if not journal.exists():
        return
    with journal.open("rb+") as file:
        content = file.read()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            file.truncate(whole)
