"""What is shipped; where models are polished, each is chosen by what those before it gained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from nas.delivery.choice import Choice
from nas.evaluation.record import Evaluation
from nas.experiment.load import load_experiment
from nas.experiment.schema import Experiment
from nas.training.polish_forecast import Polished, PolishForecast, few_bits
from supernets.metrics.classes import ACCURACY
from tests.faults.victim import write_experiment
from tests.test_disturbed import REFERENCES, evaluation
from tests.test_pipeline import Silent

FULL = 0.90
"""Of both references."""
FOUND = [evaluation(size, FULL - lacking, 4.0 / (1 + 10 * lacking)) for size, lacking in enumerate(
    (0.0, 0.004, 0.01, 0.02, 0.03, 0.04, 0.06, 0.08, 0.10, 0.15), start=1)
]  # fmt: skip
"""The less accurate, the faster."""


@dataclass
class Polisher:
    """Polishing that gives back a part of what a candidate lacks, or all of it, and more."""

    part: float
    more: float = 0.0
    known: dict[str, Polished] = field(default_factory=dict)
    trained: list[str] = field(default_factory=list)
    later: list[int] = field(default_factory=list)

    @property
    def forecast(self) -> PolishForecast:
        return PolishForecast(ACCURACY, FULL, dict(self.known), least=0)

    def train(self, evaluations: Sequence[Evaluation], later: int) -> None:
        (found,) = evaluations
        before, key = found.metrics["accuracy"], found.candidate.key
        self.known[key] = Polished(
            before, before + self.part * (FULL - before) + self.more, few_bits(found.candidate)
        )
        self.trained.append(key)
        self.later.append(later)


@pytest.fixture
def experiment(tmp_path: Path) -> Experiment:
    export = {"models": 3, "accuracy_drop": 0.005}
    return load_experiment(write_experiment(tmp_path, export=export, constraints=[]))


Choose = Callable[..., list[str]]


@pytest.fixture
def choose(experiment: Experiment) -> Choose:
    def chosen(polisher: Any, found: Sequence[Evaluation] = FOUND) -> list[str]:
        known = [*REFERENCES, *found]
        picks = Choice(known, experiment, True, Silent(), polisher).picks()
        assert [pick.name for pick in picks[:2]] == ["fp32", "int8"]
        latencies = [pick.evaluation.metrics["latency_ms"] for pick in picks[2:]]
        assert latencies == sorted(latencies)
        return [pick.name for pick in picks[2:]]

    return chosen


def lacking(keys: Sequence[str]) -> list[float]:
    """Of candidates, before they were polished."""
    metrics = {e.candidate.key: e.metrics["accuracy"] for e in FOUND}
    return [round(FULL - metrics[key], 3) for key in keys]


def test_without_polish_the_fastest_for_each_need_is_chosen(choose: Choose) -> None:
    assert lacking(choose(None)) == [0.02, 0.01, 0.004]


def test_the_next_is_chosen_by_what_the_one_before_gained(choose: Choose) -> None:
    """Most is expected back, at first. Where more comes back others may lack more, where
    polishing harms less, than those that would have been chosen beforehand."""
    usual, much, harm = Polisher(0.5), Polisher(0.5, more=0.02), Polisher(0.5, more=-0.02)
    for polisher in (usual, much, harm):
        assert sorted(choose(polisher)) == sorted(polisher.trained)
        assert polisher.later == [2, 1, 0]
        assert lacking(polisher.trained)[0] == 0.004
    assert lacking(harm.trained)[1] < 0.004 < lacking(usual.trained)[1] < lacking(much.trained)[1]
    assert lacking(usual.trained)[2] < lacking(much.trained)[2]


def test_what_is_measured_may_take_all_of_what_may_be_lost(choose: Choose) -> None:
    """As polished, the first lost nearly all of the half point: it is the one at no loss, and the
    next is a faster one for another need."""
    polisher = Polisher(0.0)
    choose(polisher)
    assert lacking(polisher.trained)[:2] == [0.004, 0.03]


def test_what_is_polished_already_is_chosen_as_it_was(choose: Choose) -> None:
    """A run that goes on knows what later ones gained, and chooses as it did without."""
    polisher = Polisher(1.0)
    first = choose(polisher)
    resumed = Polisher(1.0, known=dict(polisher.known))
    assert choose(resumed) == first
    assert resumed.trained == polisher.trained


def test_no_more_are_trained_than_there_are(experiment: Experiment) -> None:
    polisher: Any = Polisher(0.5)
    known = [*REFERENCES, *FOUND[:2]]
    assert len(Choice(known, experiment, True, Silent(), polisher).picks()) == 4
    assert polisher.later == [1, 0]


def test_where_none_is_without_loss_the_most_accurate_comes_first(choose: Choose) -> None:
    """Faster ones may be within a point too. The others are for other needs."""
    few = [evaluation(n, FULL - lacking, 4.0 - n) for n, lacking in ((1, 0.013), (2, 0.018))]
    few += FOUND[3:]
    best = few[0].candidate.key
    assert best in choose(None, few)
    for part in (0.0, 1.0):
        polisher = Polisher(part)
        choose(polisher, few)
        assert polisher.trained[0] == best
        assert len(set(polisher.trained)) == 3


def test_one_without_any_drop_is_shipped_beside_one_that_lost_a_little(choose: Choose) -> None:
    """Samples that were kept back may refuse the first at no loss; the most accurate is slow."""
    dropped = ((1, 0.004, 1.0), (2, -0.06, 3.0), (3, -0.07, 6.0), (4, -0.08, 7.0), (5, -0.09, 8.0))
    found = [evaluation(n, FULL - lacking, latency) for n, lacking, latency in dropped]
    keys = [e.candidate.key for e in found]
    polisher = Polisher(0.0)
    choose(polisher, found)
    assert polisher.trained[0] == keys[0]
    assert keys[1] in polisher.trained
    assert keys[1] in choose(None, found)
