"""The search loop: propose a round, measure it, write it down, until the budget is spent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field

import numpy as np

from nas.delivery.selection import best_so_far, within_constraints
from nas.evaluation.baselines import low_reference, measured_references
from nas.evaluation.candidate import Candidate
from nas.evaluation.record import Evaluation, Role, searched
from nas.experiment.schema import Experiment
from nas.ledger.ledger import Ledger
from nas.run.pace import Pace, TimeIsUp
from nas.run.progress import Reporter, Stage
from nas.search.expected_gain import LEAST_GAIN, expected_gain, hypervolumes
from nas.search.feasibility import BENEFIT_OF_DOUBT, refuse_unreachable
from nas.search.problem import FEWEST, History, SearchProblem
from nas.search.strategy import make_strategy
from nas.training.finetune import FineTuner
from nas.training.polish_forecast import LEAST, to_try
from nas.workers.executors import Executor

FAILED_SHARE = 0.2
"""Share of failed candidates above which a run stops; a continued run judges only new ones."""
FEWEST_JUDGED = 10
"""Candidates before which that share says nothing."""

FEWEST_IN_TIME = 4
"""Candidates that are measured however late it is: a run ends with models."""


class SearchError(ValueError):
    """The search cannot go on."""


@dataclass(frozen=True)
class SearchLoop:
    """Has the candidates of one run evaluated, continuing what its ledger holds.

    known: candidates of which another run left only the latency to be measured; they come first.
    fine_tuner: once the references are measured, who polishes. lenient: whether constraints that
    cannot be kept end nothing; candidates are then judged as polishing usually leaves them, too.
    """

    experiment: Experiment
    ledger: Ledger
    executor: Executor
    reporter: Reporter
    pace: Pace = field(default_factory=Pace)
    known: Sequence[Candidate] = ()
    fine_tuner: Callable[[], FineTuner | None] = lambda: None
    lenient: bool = False

    def measure_references(
        self, references: Mapping[str, Candidate]
    ) -> dict[str, Mapping[str, float]]:
        """Measure the reference rows unless the ledger has them; reference name -> metrics.

        Raises SearchError if one fails: nothing could be compared then.
        """
        stage, earlier = self.reporter.stage("references"), _keys(self.ledger.evaluations())
        if self._late:
            self.ledger.set_aside()
        self.ledger.enqueue(list(references.values()), "reference", 0)
        self._work_off(stage, "reference", len(references), earlier)
        known = {e.candidate.key: e for e in self.ledger.evaluations()}
        measured = {name: known[candidate.key] for name, candidate in references.items()}
        for name, evaluation in measured.items():
            if evaluation.failure is not None:
                raise SearchError(f"the {name} reference failed: {evaluation.failure}")
        return {name: evaluation.metrics for name, evaluation in measured.items()}

    def search(self, problem: SearchProblem) -> None:
        """Measure `search.evaluations` candidates in rounds.

        A round follows from the seed and the rounds before it, so an interrupted round is proposed
        again and only what is missing of it is measured. Raises SearchError when too many fail, and
        UnreachableError when the predictors see no way to keep the constraints. Ends early when its
        time is used up, or when the last `search.patience` rounds added next to nothing.
        """
        stage = self.reporter.stage("search")
        try:
            self._measure_rounds(problem, stage)
        except TimeIsUp:
            self.ledger.set_aside()
            known = searched(self.ledger.evaluations())
            self.reporter.say(f"search: {len(known)} candidates were measured in its time")
        measured = len(searched(self.ledger.evaluations()))
        self.pace.correct(measured, self.experiment.search.evaluations)

    def _measure_rounds(self, problem: SearchProblem, stage: Stage) -> None:
        ledger, settings, seed = self.ledger, self.experiment.search, self.experiment.seed
        strategy = make_strategy(problem, settings, seed)
        self._keep_time()
        first = [candidate for candidate in self.known if problem.space.holds(candidate.values)]
        ledger.enqueue(first[: settings.evaluations - settings.round_size], "search", 0)
        number, earlier = max(1, ledger.last_round), _keys(ledger.evaluations())
        self._work_off(stage, "search", settings.evaluations, earlier)
        while ledger.queued("search") < settings.evaluations:
            if self._tell_gain(problem):
                return
            before = [e for e in ledger.evaluations() if e.round < number]
            if ledger.last_round < number:  # else it was proposed by what was known then
                stage = self._probe(before, number) or stage
            left = settings.evaluations - sum(e.role == "search" for e in before)
            known = history_of(self._after_polish(before, number), problem)
            proposed = strategy.propose(known, min(left, settings.round_size))
            if not len(proposed):
                self.reporter.say("search: every candidate of the space has been measured")
                return
            candidates = [Candidate.from_genome(problem.space, genome) for genome in proposed]
            ledger.enqueue(candidates, "search", number)
            self._work_off(stage, "search", settings.evaluations, earlier)
            self._refuse_unreachable(problem, number)
            number += 1

    def _refuse_unreachable(self, problem: SearchProblem, number: int) -> None:
        if self.lenient:
            return
        generous = self._after_polish(self.ledger.evaluations(), number, BENEFIT_OF_DOUBT)
        refuse_unreachable(problem, history_of(generous, problem), self.experiment.seed)

    def _tell_gain(self, problem: SearchProblem) -> bool:
        """Say what the rounds have reached and the next should add; whether that is too little."""
        known = self._expressible(problem)
        later = self._after_polish(known, self.ledger.last_round)
        found = hypervolumes(problem, history_of(later, problem), [e.round for e in known])
        patience, reached = self.experiment.search.patience, list(found.values())
        if not reached:
            return False
        gain = expected_gain(reached, patience or 1)
        coming = "" if gain is None else f", the next round should add {gain:.1%} of it"
        best = best_so_far(known, self.experiment)
        self.reporter.say(f"round {max(found)}: hypervolume {reached[-1]:.3f}{coming}; {best}")
        if patience is None or gain is None or gain >= LEAST_GAIN:
            return False
        self.reporter.say(f"search: {patience} rounds have added next to nothing, so it ends here")
        return True

    def _expressible(self, problem: SearchProblem) -> list[Evaluation]:
        known = self.ledger.evaluations()
        return [e for e in known if problem.space.holds(e.candidate.values)]

    def _probe(self, known: Sequence[Evaluation], number: int) -> Stage | None:
        """Polish a few candidates before a round, once enough are measured to choose from.

        Returns the stage in which the search goes on then.
        """
        settings = self.experiment.polish
        if settings is None or settings.probes < LEAST:
            return None
        if self.ledger.state.probes is not None or len(searched(known)) < FEWEST:
            return None
        if (fine_tuner := self.fine_tuner()) is None:
            return None
        references = measured_references(known)
        low, metric = references[low_reference(references)], self.experiment.quality
        found = searched(known)
        kept = within_constraints(found, self.experiment, references, of_costs_alone=True)
        pool = kept if len(kept) >= settings.probes else found
        tried = to_try(pool, low, metric, settings.probes, self.experiment.cost)
        fine_tuner.train(tried)
        keys = [e.candidate.key for e in tried if e.candidate.key in fine_tuner.forecast.known]
        self.ledger.note(probes={"round": number, "keys": keys})
        self.reporter.say(
            f"search: candidates are judged by what they are expected to be after polishing, as "
            f"{len(keys)} of them were"
        )
        return self.reporter.stage("search")

    def _after_polish(
        self, known: Sequence[Evaluation], number: int, doubts: float = 0.0
    ) -> list[Evaluation]:
        """Evaluations as polishing is expected to leave them, from the round on that knows it.

        By those alone that were polished for that, so that a round is always proposed alike.
        """
        probes = self.ledger.state.probes
        usual = probes is None and self.lenient
        if not usual and (probes is None or number < probes["round"]):
            return list(known)
        if (fine_tuner := self.fine_tuner()) is None:
            return list(known)
        keys = probes["keys"] if probes is not None else ()
        return fine_tuner.forecast.by(keys).polished(known, doubts)

    @property
    def _late(self) -> bool:
        """Whether the search has used its share of the time, and has found something."""
        late = self.pace.left_s("search") <= 0
        return late and len(searched(self.ledger.evaluations())) >= FEWEST_IN_TIME

    def _keep_time(self) -> None:
        """Raise TimeIsUp when the search is late."""
        if self._late:
            raise TimeIsUp

    def _work_off(self, stage: Stage, role: Role, total: int, earlier: Set[str]) -> None:
        """Have every waiting candidate evaluated.

        earlier: keys of the candidates whose failures are forgiven, their cause may be gone.
        """

        def tell() -> None:
            known = self.ledger.evaluations()
            _stop_if_failing([e for e in known if e.candidate.key not in earlier])
            done = min(sum(e.role == role for e in known), total)
            stage.update(done, total, best_so_far(known, self.experiment))
            if role == "search":
                self._keep_time()

        self.executor.work_off(self.ledger, tell)


def _keys(known: Sequence[Evaluation]) -> set[str]:
    return {evaluation.candidate.key for evaluation in known}


def _stop_if_failing(known: Sequence[Evaluation]) -> None:
    failures = [e for e in known if e.failure is not None]
    if len(known) < FEWEST_JUDGED or len(failures) <= FAILED_SHARE * len(known):
        return
    reasons = Counter(str(e.failure).splitlines()[0] for e in failures)
    summary = "; ".join(f"{count}x {reason}" for reason, count in reasons.items())
    raise SearchError(
        f"{len(failures)} of {len(known)} candidates failed ({summary}); nothing is lost, "
        "remove the cause and run the same command again"
    )


def history_of(evaluations: Sequence[Evaluation], problem: SearchProblem) -> History:
    """What a strategy sees of the ledger: every candidate that the space can express."""
    known = [e for e in evaluations if problem.space.holds(e.candidate.values)]
    if not known:
        return History.empty(problem)
    timed = any(metric.timed for metric in problem.metrics)
    return History.empty(problem).append(
        np.array([e.candidate.genome(problem.space) for e in known]),
        np.array([[e.metrics.get(m.name, np.nan) for m in problem.metrics] for e in known]),
        np.array([timed and e.disturbed for e in known]),
    )
