"""The search loop: propose a round, measure it, write it down, until the budget is spent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set

import numpy as np

from nas.delivery.selection import best_so_far
from nas.evaluation.candidate import Candidate
from nas.evaluation.record import Evaluation, Role
from nas.experiment.schema import Experiment
from nas.ledger.ledger import Ledger
from nas.run.progress import Reporter, Stage
from nas.search.feasibility import refuse_unreachable
from nas.search.problem import History, SearchProblem
from nas.search.strategy import Strategy
from nas.workers.executors import Executor
from supernets.space.space import Genomes

FAILED_SHARE = 0.2
"""Share of failed candidates above which a run stops; a continued run judges only new ones."""
FEWEST_JUDGED = 10
"""Candidates before which that share says nothing."""


class SearchError(ValueError):
    """The search cannot go on."""


def measure_references(
    ledger: Ledger,
    references: Mapping[str, Candidate],
    experiment: Experiment,
    executor: Executor,
    reporter: Reporter,
) -> dict[str, Mapping[str, float]]:
    """Measure the reference rows unless the ledger has them; reference name -> metrics.

    Raises SearchError if one fails: nothing could be compared then.
    """
    stage, earlier = reporter.stage("references"), _keys(ledger.evaluations())
    ledger.enqueue(list(references.values()), "reference", 0)
    work_off(ledger, executor, stage, experiment, "reference", len(references), earlier)
    known = {e.candidate.key: e for e in ledger.evaluations()}
    metrics = {}
    for name, candidate in references.items():
        evaluation = known[candidate.key]
        if evaluation.failure is not None:
            raise SearchError(f"the {name} reference failed: {evaluation.failure}")
        metrics[name] = evaluation.metrics
    return metrics


def search(
    ledger: Ledger,
    problem: SearchProblem,
    strategy: Strategy,
    experiment: Experiment,
    executor: Executor,
    reporter: Reporter,
) -> None:
    """Measure `search.evaluations` candidates in rounds, continuing what the ledger holds.

    A round follows from the seed and the rounds before it, so an interrupted round is proposed
    again and only what is missing of it is measured. Raises SearchError when too many fail, and
    UnreachableError when the predictors see no way to keep the constraints.
    """
    stage, settings = reporter.stage("search"), experiment.search
    number, earlier = max(1, ledger.last_round), _keys(ledger.evaluations())
    work_off(ledger, executor, stage, experiment, "search", settings.evaluations, earlier)
    while ledger.queued("search") < settings.evaluations:
        before = [e for e in ledger.evaluations() if e.round < number]
        left = settings.evaluations - sum(e.role == "search" for e in before)
        proposed = strategy.propose(history_of(before, problem), min(left, settings.round_size))
        if not len(proposed):
            reporter.say("search: every candidate of the space has been measured")
            return
        candidates = [Candidate.from_genome(problem.space, genome) for genome in proposed]
        ledger.enqueue(candidates, "search", number)
        work_off(ledger, executor, stage, experiment, "search", settings.evaluations, earlier)
        refuse_unreachable(problem, history_of(ledger.evaluations(), problem), experiment.seed)
        number += 1


def work_off(
    ledger: Ledger,
    executor: Executor,
    stage: Stage,
    experiment: Experiment,
    role: Role,
    total: int,
    earlier: Set[str],
) -> None:
    """Have every waiting candidate evaluated.

    earlier: keys of the candidates whose failures are forgiven, their cause may be gone.
    """

    def tell() -> None:
        known = ledger.evaluations()
        _stop_if_failing([e for e in known if e.candidate.key not in earlier])
        stage.update(min(_measured(known, role), total), total, best_so_far(known, experiment))

    executor.work_off(ledger, tell)


def _measured(known: Sequence[Evaluation], role: str) -> int:
    return sum(evaluation.role == role for evaluation in known)


def _keys(known: Sequence[Evaluation]) -> set[str]:
    return {evaluation.candidate.key for evaluation in known}


def _stop_if_failing(known: Sequence[Evaluation]) -> None:
    failures = [e for e in known if e.failure is not None]
    if len(known) < FEWEST_JUDGED or len(failures) <= FAILED_SHARE * len(known):
        return
    reasons: dict[str, int] = {}
    for evaluation in failures:
        reason = str(evaluation.failure).splitlines()[0]
        reasons[reason] = reasons.get(reason, 0) + 1
    summary = "; ".join(f"{count}x {reason}" for reason, count in reasons.items())
    raise SearchError(
        f"{len(failures)} of {len(known)} candidates failed ({summary}); nothing is lost, "
        "remove the cause and run the same command again"
    )


def history_of(evaluations: Sequence[Evaluation], problem: SearchProblem) -> History:
    """What a strategy sees of the ledger: every candidate that the space can express."""
    genomes: list[Genomes] = []
    values: list[list[float]] = []
    for evaluation in evaluations:
        candidate = evaluation.candidate
        if problem.space.holds(candidate.values):
            genomes.append(candidate.genome(problem.space))
            values.append([evaluation.metrics.get(m.name, np.nan) for m in problem.metrics])
    if not genomes:
        return History.empty(problem)
    return History.empty(problem).append(np.array(genomes), np.array(values))
