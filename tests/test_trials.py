"""Settings found by short trainings: what is tried, given up, taken, and gone on with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from optuna.storages import InMemoryStorage

from nas.experiment.load import dump_experiment, load_experiment
from nas.experiment.schema import Experiment
from nas.pipeline import run
from nas.recipe.defaults import derive
from nas.recipe.facts import Facts
from nas.recipe.found import with_found
from nas.recipe.short_steps import LEAST_STEPS, MOST_STEPS, short_steps
from nas.recipe.short_training import ShortPolish, ShortTuning, drawn
from nas.recipe.trials import MOST_TRIALS, Answers, Options, TrialStudy
from nas.recipe.tried import options_of, tried_steps
from nas.run.run_folder import RunFolder
from nas.run.trial_record import Trial, Trials, read_trials
from supernets.data.data import TaskData
from supernets.load import load_data, load_supernet
from supernets.metrics.registry import QUALITIES
from supernets.tasks.classification import CLASSIFICATION
from supernets.tasks.predictions import Predictions
from supernets.training.train import NonFiniteLossError
from tests.conftest import FEW, TINY
from tests.test_pipeline import Silent
from tests.test_recipe import TEXTS, experiment

OPTIONS = {"rate": Options((1, 2, 4, 8, 16), 2), "weight": Options((0.0, 1.0), 1)}
SAMPLES = 400


@dataclass
class Pretended:
    """A training whose accuracy is known: `right` of the settings, of 400 samples."""

    right: Callable[[Mapping[str, Any]], float]
    steps: int = 100
    asked: list[Mapping[str, Any]] = field(default_factory=list)

    def __call__(
        self, changed: Mapping[str, Any], tell: Callable[[int], object]
    ) -> Iterator[tuple[int, Answers]]:
        self.asked.append(changed)
        settings = {"rate": 4, "weight": 1.0, **changed}
        for cost in (50, 100):
            tell(cost)
            share = self.right(settings)
            if not np.isfinite(share):
                raise NonFiniteLossError("training: loss is nan; give a smaller learning_rate")
            found = Predictions(CLASSIFICATION)
            wanted = np.zeros(SAMPLES, np.int64)
            wrong = np.arange(SAMPLES) >= share * SAMPLES
            found.add(np.eye(2)[wrong.astype(int)], wanted)
            yield cost, [found]


def study(training: Pretended, storage: Any = None, allowance: int = 2000) -> TrialStudy:
    return TrialStudy(
        storage or InMemoryStorage(), "tune", OPTIONS, training, QUALITIES["accuracy"],
        allowance, 0, Silent(),
    )  # fmt: skip


def good_at(settings: Mapping[str, Any]) -> float:
    """Best at a rate of 8 without the weight."""
    return float(0.9 - 0.1 * abs(np.log2(settings["rate"] / 8)) - 0.02 * settings["weight"])


def test_what_is_distinguishably_better_is_taken() -> None:
    rows = study(Pretended(good_at)).run()
    trials = Trials(rows, 100, SAMPLES)
    assert trials.chosen == {"rate": 8, "weight": 0.0}
    assert trials.best is not None
    assert trials.best.difference == pytest.approx(0.12)
    assert "0.9000 on validation, what was derived 0.7800" in trials.reason()
    assert Trials.from_json(trials.to_json()) == trials


def test_the_derived_settings_stay_where_nothing_is_distinguishably_better() -> None:
    rows = study(Pretended(lambda settings: 0.8 + 0.0025 * (settings["rate"] == 8))).run()
    assert max(row.difference or 0 for row in rows) == pytest.approx(0.0025)
    assert not Trials(rows, 100, SAMPLES).chosen


def test_a_setting_is_first_changed_alone_and_the_worse_is_given_up() -> None:
    training = Pretended(good_at)
    rows = study(training).run()
    simple = [{}, {"rate": 8}, {"rate": 2}, {"weight": 0.0}]
    assert training.asked[:4] == simple
    assert (rows[0].ended, rows[2].ended) == ("finished", "given up")
    assert rows[2].steps == 50
    assert len({str(sorted(row.changed.items())) for row in rows}) == len(rows)


def test_the_allowance_is_kept() -> None:
    rows = study(Pretended(good_at), allowance=300).run()
    assert 250 <= sum(row.steps for row in rows) <= 350
    assert len(study(Pretended(good_at), allowance=10**6).run()) == 10 <= MOST_TRIALS


def test_a_training_that_diverges_is_given_up() -> None:
    def right(settings: Mapping[str, Any]) -> float:
        return float("nan") if settings["rate"] >= 4 else 0.7

    trials = Trials(study(Pretended(right)).run(), 100, SAMPLES)
    assert trials.rows[0].ended == "diverged: training: loss is nan"
    assert trials.chosen["rate"] < 4
    assert "what was derived diverged" in trials.reason()


@pytest.mark.parametrize("after", [1, 3, 5])
def test_an_interrupted_study_ends_as_if_it_had_not_been(after: int, tmp_path: Path) -> None:
    """Killed in the middle of a training, when some trials have ended."""

    class Killed(Exception):  # noqa: N818 # not an error of the study
        pass

    class Dying(Pretended):
        def __call__(self, *given: Any) -> Iterator[tuple[int, Answers]]:
            for number, found in enumerate(super().__call__(*given)):
                if len(self.asked) > after and number:
                    raise Killed
                yield found

    whole = study(Pretended(good_at)).run()
    storage = InMemoryStorage()
    with pytest.raises(Killed):
        study(Dying(good_at), storage).run()
    assert study(Pretended(good_at), storage).run() == whole


MISTAKES = replace(
    QUALITIES["accuracy"],
    direction="minimize",
    right=None,
    score=lambda o, t, n: float((np.argmax(o, 1) != t).mean()),
)


def test_the_least_error_is_taken_where_what_was_derived_diverges() -> None:
    def right(settings: Mapping[str, Any]) -> float:
        return float("nan") if settings["rate"] == 4 else good_at(settings)

    given = study(Pretended(right))
    given.metric = MISTAKES
    trials = Trials(given.run(), 100, SAMPLES, sign=MISTAKES.sign)
    values = [row.value for row in trials.rows if row.ended == "finished" and row.value is not None]
    assert len(set(values)) > 1
    assert trials.best is not None
    assert trials.best.value == min(values)


def test_less_is_better_of_an_error() -> None:
    """Of a metric that counts mistakes the differences turn, and what is taken."""
    given = study(Pretended(good_at))
    given.metric = MISTAKES
    trials = Trials(given.run(), 100, SAMPLES)
    assert trials.chosen == {"rate": 8, "weight": 0.0}
    assert trials.best is not None
    assert trials.best.value == pytest.approx(0.1)
    assert trials.best.difference == pytest.approx(0.12)


def test_only_what_is_open_is_tried() -> None:
    recipe = derive(experiment(polish={"feature_weight": 2.0}, tune={"learning_rate": 1e-3}), TEXTS)
    assert not options_of(recipe, "tune")
    options = options_of(recipe, "polish")
    assert set(options) == {"learning_rate", "token_noise", "block_weight", "teacher"}
    assert options["block_weight"] == Options((0.0, 0.5, 1.5), 1)
    assert options["token_noise"] == Options((0.0, 0.15, 0.3), 1)
    rates = options["learning_rate"]
    assert rates.values[rates.derived] == 2e-3
    assert rates.values == (5e-4, 1e-3, 2e-3, 4e-3, 8e-3)


def test_short_trainings_are_long_enough_to_tell_or_not_done() -> None:
    long = derive(experiment(), replace(TEXTS, samples=10**5))
    assert short_steps(long.experiment.polish, "polish", 10**5) == MOST_STEPS
    assert short_steps(derive(experiment(), TEXTS).experiment.tune, "tune", 3000) >= LEAST_STEPS
    short = derive(experiment(tune={"epochs": 3}), TEXTS).experiment
    assert not short_steps(short.tune, "tune", 3000)
    assert not derive(experiment(effort="quick"), TEXTS).experiment.trials
    assert not tried_steps(derive(experiment(trials=False), TEXTS), "tune", 3000)


def test_a_budget_below_standard_effort_tries_settings_only_where_that_is_stated() -> None:
    assert not derive(experiment(budget="20 min"), TEXTS, 0.7).experiment.trials
    assert derive(experiment(budget="20 min"), TEXTS, 1.0).experiment.trials
    stated = derive(experiment(budget="20 min", trials=True), TEXTS, 0.7)
    assert stated.experiment.trials
    assert not [note for note in stated.notes if "trials" in note]


def test_too_few_steps_to_try_settings_in_are_told() -> None:
    few = replace(TEXTS, samples=200)  # four steps an epoch, at most twenty epochs
    recipe = derive(experiment(), few)
    assert not recipe.experiment.trials
    assert "too few steps to try settings in (13 of tune, 8 of polish; 60 tell)" in "".join(
        line for line in recipe.lines() if line.startswith("derived: trials: False")
    )
    asked = derive(experiment(trials=True), few)
    assert asked.experiment.trials
    assert any("trials: true tries nothing: there are too few" in note for note in asked.notes)


def test_what_is_found_replaces_what_was_derived_and_is_explained(tmp_path: Path) -> None:
    recipe = derive(experiment(polish={"block_weight": 0.25}), TEXTS)
    better = Trial({"learning_rate": 1e-3, "block_weight": 9.0}, 0.9, 100, "finished", 0.1, 0.01)
    trials = Trials((Trial({}, 0.8, 100, "finished", 0.0, 0.01), better), 100, 500)
    found = with_found(recipe, "polish", trials)
    polish = found.experiment.polish
    assert polish is not None
    assert (polish.learning_rate, polish.block_weight) == (1e-3, 0.25)
    assert polish.teacher is not None
    assert polish.teacher.learning_rate == 5e-4
    assert with_found(found, "polish", trials) == found
    text = dump_experiment(found.experiment, found.reasons)
    assert "the best of 2 trial runs of 100 steps: 0.9000 on validation" in text
    none = Trial({"teacher": False}, 0.9, 100, "finished", 0.1, 0.01)
    without = with_found(recipe, "polish", Trials((trials.rows[0], none), 100, 500))
    assert without.experiment.polish is not None
    assert without.experiment.polish.teacher is None


@pytest.fixture(scope="module")
def tiny() -> tuple[Experiment, TaskData]:
    asked = {"effort": "standard", "tune": {"batch_size": 32}, "polish": {}, "model": TINY["model"]}
    given = Experiment.model_validate({**TINY, **asked})
    data = load_data(given.data, given.model)
    return derive(given, Facts.of(given, data)).experiment, data


def test_short_trainings_are_what_they_stand_for(tiny: tuple[Experiment, TaskData]) -> None:
    """A training of other settings changes nothing of the network that all begin with."""
    given, data = tiny
    network = load_supernet(given.model, data, given.seed).network
    before = {name: value.clone() for name, value in network.state_dict().items()}
    tuning = ShortTuning(given, data, network, network.space(given.space), 8)
    ends = [list(tuning({"learning_rate": rate})) for rate in (1e-3, 1e-3, 1e-2)]
    scores = [[found.rows[0] for found in end[-1][1]] for end in ends]
    assert [cost for cost, _ in ends[0]] == [4 + tuning.steps // 2 - 4, tuning.steps]
    assert np.array_equal(scores[0][0], scores[1][0])
    assert not np.array_equal(scores[0][0], scores[2][0])
    assert len(scores[0]) == 2
    assert not np.array_equal(scores[0][0], scores[0][1])
    polish = ShortPolish(given, data, network, network.space(given.space), 6)
    assert 0 <= polish.before() <= 1
    for changed in ({}, {"teacher": False}, {"block_weight": 0.0, "feature_weight": 3.0}):
        *_, (cost, (found,)) = polish(changed)
        assert cost == polish.steps
        assert len(found) == len(tuning.judge.split)
    after = network.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_only_training_and_validation_are_used(tiny: tuple[Experiment, TaskData]) -> None:
    """What is kept back and the test split are not looked at."""
    given, data = tiny

    class Forbidden:
        def __getattribute__(self, name: str) -> object:
            raise AssertionError(f"{name} of a split that trials may not see")

        def __len__(self) -> int:
            raise AssertionError("its length is not theirs to know")

    nothing: Any = Forbidden()
    hidden = replace(data, test=nothing, kept_back=nothing)
    network = load_supernet(given.model, data, given.seed).network
    space = network.space(given.space)
    for training in (
        ShortTuning(given, hidden, network, space, 2),
        ShortPolish(given, hidden, network, space, 2),
    ):
        assert len(list(training({}))) == 2


def test_drawn_samples_are_always_the_same(tiny: tuple[Experiment, TaskData]) -> None:
    _, data = tiny
    once, again = (np.asarray(drawn(data.train, 100, 3).labels) for _ in range(2))
    assert np.array_equal(once, again)
    assert not np.array_equal(once, np.asarray(data.train.labels[:100]))
    assert len(drawn(data.train, 10**6, 3)) == len(data.train)


def test_a_run_tries_settings_and_reports_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once: another start takes what was found."""
    monkeypatch.setattr("nas.recipe.short_steps.LEAST_STEPS", 4)
    folder, reporter = RunFolder(tmp_path / "run"), Silent()
    tune = {"epochs": 5, "batch_size": 128}
    search = {"evaluations": 4, "round_size": 4, "patience": None}
    given = Experiment.model_validate(
        {
            **TINY,
            "data": FEW,
            "tune": tune,
            "search": search,
            "trials": True,
            "export": {"models": 1},
        }
    )
    run(given, folder, reporter)
    trials = read_trials(folder)["tune"]
    assert trials.rows[0].changed == {}
    assert len(trials.rows) > 2
    kept = load_experiment(folder.experiment)
    assert kept.tune.learning_rate == trials.chosen.get("learning_rate", 1e-3)
    assert trials.reason() in folder.experiment.read_text()
    assert "as derived" in folder.report_markdown.read_text()
    assert "Tried settings" in folder.report_html.read_text()
    again = Silent()
    run(given, folder, again)
    assert not [line for line in again.told if "trial" in line]
    optuna.load_study(study_name="tune", storage=_journal(folder))


def _journal(folder: RunFolder) -> optuna.storages.BaseStorage:
    from nas.ledger.storage import open_storage

    return open_storage(None, folder.trial_journal)
