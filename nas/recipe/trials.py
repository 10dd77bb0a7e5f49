"""A few short trainings, one after the other, that tell which settings a data set wants."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import numpy as np
import optuna
from optuna.pruners import SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from nas.run.progress import Stage
from nas.run.trial_record import Trial
from supernets.metrics.metric import Quality
from supernets.tasks.predictions import Predictions
from supernets.training.train import NonFiniteLossError

Answers = Sequence[Predictions]
"""Of every network that a training is judged by."""
LOOKS = (1, 2)
"""Halves of a short training after which it is judged, and may be given up.

Not before: while the learning rate is high, more of it looks worse than it ends.
"""
MOST_TRIALS = 20
DRAWS = 20
"""Proposals that were tried before in a row, after which nothing new is left; the second half is
drawn at random."""


class Options(NamedTuple):
    """Values of a setting from small to large, and the place of the derived one."""

    values: tuple[Any, ...]
    derived: int

    @classmethod
    def of(cls, values: Iterable[Any], derived: Any) -> Options:
        """Of values in any order."""
        ordered = sorted(set(values))
        return cls(tuple(ordered), ordered.index(derived))


class ShortTraining(Protocol):
    """A training of some steps with given settings.

    steps: that it costs when it is not given up, judging included.
    """

    @property
    def steps(self) -> int:
        """See above."""

    def __call__(
        self, changed: Mapping[str, Any], tell: Callable[[int], object]
    ) -> Iterator[tuple[int, Answers]]:
        """Train as derived but for some settings; yields cost and answers after each of `LOOKS`.

        tell: is told of every step. Raises NonFiniteLossError where training leaves the numbers.
        """


@dataclass
class TrialStudy:
    """An Optuna study of short trainings, which goes on where it was interrupted.

    allowance: steps that all of them may cost. late: whether the time for them is over.
    """

    storage: BaseStorage
    name: str
    options: Mapping[str, Options]
    training: ShortTraining
    metric: Quality
    allowance: int
    seed: int
    stage: Stage
    late: Callable[[], bool] = lambda: False
    _derived: Answers | None = None
    """Answers with the derived settings, once they are known."""

    def run(self) -> tuple[Trial, ...]:
        """Try settings until the allowance is used; the trials, the derived settings first."""
        self._forget_killed()
        while not self.late() and not self._used_up() and (trial := self._next()) is not None:
            self._try(trial)
        return self.rows

    @cached_property
    def study(self) -> optuna.Study:
        """Opened, or begun."""
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        return optuna.create_study(
            storage=self.storage,
            study_name=self.name,
            direction="maximize",
            load_if_exists=True,
            pruner=SuccessiveHalvingPruner(min_resource=LOOKS[0], reduction_factor=2),
        )

    @property
    def _ended(self) -> list[FrozenTrial]:
        return self.study.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED))

    @property
    def rows(self) -> tuple[Trial, ...]:
        """Of trials that ended."""
        return tuple(Trial(**trial.user_attrs["row"]) for trial in self._ended)

    def _forget_killed(self) -> None:
        """Begin the study anew with what had ended; the rest would go on to be compared with."""
        ended = self._ended
        if len(ended) < len(self.study.trials):
            optuna.delete_study(study_name=self.name, storage=self.storage)
            del self.study
            self.study.add_trials(ended)

    def _used_up(self) -> bool:
        rows = self.rows
        used = sum(row.steps for row in rows) + self.training.steps / 2
        return len(rows) >= MOST_TRIALS or (bool(rows) and used > self.allowance)

    def _next(self) -> optuna.Trial | None:
        """What follows from the trials that ended.

        First one setting changed alone, then together what was better so, then what Optuna draws.
        """
        known = [trial.params for trial in self._ended]
        for params in self._simple():
            if params not in known:
                return self._asked(RandomSampler(), params)
        if (params := self._together()) not in known:
            return self._asked(RandomSampler(), params)
        for draw in range(DRAWS):
            seed = int(np.random.default_rng((self.seed, len(known), draw)).integers(2**31))
            sampler = TPESampler(seed=seed) if draw < DRAWS // 2 else RandomSampler(seed=seed)
            trial = self._asked(sampler)
            if trial.params not in known:
                return trial
            self.study.tell(trial, state=TrialState.FAIL)
        return None

    def _asked(self, sampler: BaseSampler, params: Mapping[str, int] | None = None) -> optuna.Trial:
        """A trial with these places of the settings' values, or those that are drawn."""
        self.study.sampler = sampler
        if params is not None:
            self.study.enqueue_trial(dict(params))
        trial = self.study.ask()
        for name, options in self.options.items():
            trial.suggest_int(name, 0, len(options.values) - 1)
        return trial

    @property
    def _as_derived(self) -> dict[str, int]:
        return {name: options.derived for name, options in self.options.items()}

    def _simple(self) -> Iterator[dict[str, int]]:
        """What was derived, then what differs from it in one setting, by one place."""
        yield self._as_derived
        for name, options in self.options.items():
            for place in (options.derived + 1, options.derived - 1):
                if 0 <= place < len(options.values):
                    yield {**self._as_derived, name: place}

    def _together(self) -> dict[str, int]:
        """Of every setting the value that alone was best, of trainings that were finished."""
        finished = [trial for trial in self._ended if trial.state is TrialState.COMPLETE]
        together = self._as_derived
        for trial in sorted(finished, key=lambda trial: trial.value or 0.0):
            changed = {n: p for n, p in trial.params.items() if p != self.options[n].derived}
            if len(changed) <= 1:  # the derived settings come before what was better
                together |= changed or self._as_derived
        return together

    def _changed(self, trial: optuna.Trial) -> dict[str, Any]:
        """What a trial has otherwise than derived."""
        places = trial.params.items()
        both = [(name, self.options[name], place) for name, place in places]
        return {name: o.values[place] for name, o, place in both if place != o.derived}

    def _try(self, trial: optuna.Trial) -> None:
        """Train and judge; what came of it is kept with the trial."""
        changed = self._changed(trial)
        cost, value, ended = self.training.steps // LOOKS[-1], None, "finished"
        answers: Answers = ()
        try:
            for look, (steps, answers) in zip(LOOKS, self._looks(changed), strict=True):
                cost, value = steps, self._value(answers)
                trial.report(self.metric.sign * value, look)
                if look < LOOKS[-1] and trial.should_prune():
                    ended = "given up"
                    break
        except NonFiniteLossError as error:
            value, ended = None, f"diverged: {str(error).partition(';')[0]}"
        row = Trial(changed, value, cost, ended)
        if value is not None and ended == "finished":
            row = self._beside_derived(row, answers)
            trial.set_user_attr("row", asdict(row))
            self.study.tell(trial, self.metric.sign * value)
        else:
            trial.set_user_attr("row", asdict(row))
            self.study.tell(trial, state=TrialState.PRUNED)

    def _looks(self, changed: Mapping[str, Any]) -> Iterator[tuple[int, Answers]]:
        """Train and tell how far all trials are."""
        rows = self.rows
        used, note = sum(row.steps for row in rows), f"trial {len(rows) + 1}"

        def tell(steps: int) -> None:
            self.stage.update(min(used + steps, self.allowance), self.allowance, note)

        return self.training(changed, tell)

    def _value(self, answers: Answers) -> float:
        """Mean of the metric over the networks. Raises NonFiniteLossError where it is none."""
        value = float(np.mean([found.score(self.metric) for found in answers]))
        if not math.isfinite(value):
            raise NonFiniteLossError(f"{self.metric.name} is {value}")
        return value

    def _beside_derived(self, row: Trial, found: Answers) -> Trial:
        """The row with its difference from the derived settings.

        An interrupted study has not their answers any more, and trains by them once again.
        """
        rows = self.rows
        if rows and rows[0].ended != "finished":
            return row
        if self._derived is None:
            self._derived = list(self._looks({}))[-1][1] if rows else found
        both = [a.compared(b, self.metric) for a, b in zip(found, self._derived, strict=True)]
        difference = self.metric.sign * float(np.mean([one.difference for one in both]))
        # As if the networks erred together, so rather too large.
        return replace(
            row, difference=difference, error=float(np.mean([one.error for one in both]))
        )
