"""A budget: what a run will take, what is fitted to it, and that it ends in time with models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nas.dry_run import admit
from nas.evaluation.record import searched
from nas.experiment.duration import parse_duration
from nas.experiment.given import filled, with_values
from nas.experiment.load import ExperimentError, load_experiment
from nas.experiment.schema import Experiment
from nas.ledger.study import read_evaluations
from nas.pipeline import run
from nas.recipe.defaults import derive
from nas.recipe.facts import Facts
from nas.recipe.plan import BudgetError, Plan, SampleCounts, fewer_samples, plan
from nas.recipe.resolution import keep, resolved
from nas.recipe.timing import Costs, Training
from nas.run.pace import KEPT_BACK, STAGES, Pace
from nas.run.run_folder import RunFolder, read_json
from supernets.families.vit.config import VitConfig
from supernets.load import load_data, supernet
from supernets.model_settings import ModelSettings
from supernets.settings import DataSettings, TrainSettings
from supernets.training.train import Trainer
from tests.conftest import LITTLE, TINY
from tests.test_pipeline import Silent

FACTS = Facts(True, 384, 22_000_000, 3_000, (13, 512), True, True)
COUNTS = SampleCounts(3_000, 1_000, 400, 1_600)
COSTS = Costs(
    training=Training(),
    tuning=Training(1.0, 0.3),
    teacher=Training(0.0, 0.3),
    polish=Training(0.0, 0.2),
    accuracy_s=2.0,
    sample_s={"int8": 0.002, "fp32": 0.006, "candidate": 0.001},
    other_s={"int8": 0.5, "fp32": 0.6, "candidate": 0.4},
    round_s=2.0,
    rounding_s=[1.0, 3.0, 4.0],
)


def planned_for(budget: str | None, **sections: object) -> Plan:
    given = {"name": "b", "model": {"checkpoint": "c"}, "data": {"name": "d"}, **sections}
    if budget is not None:
        given["budget"] = budget
    return plan(Experiment.model_validate(given), FACTS, COSTS, COUNTS, spent_s=20)


@pytest.mark.parametrize(
    ("text", "seconds"), [("30 min", 1800), ("1.5h", 5400), (" 90 s ", 90), ("2 Hours", 7200)]
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["30", "min", "-3 min", "0 s", "3 days", "9999999 h", "1e3 s"])
def test_what_is_no_duration_is_refused(text: str, experiment_file: Callable[..., Path]) -> None:
    with pytest.raises(ExperimentError, match=r"budget: duration .*such as 30 min"):
        load_experiment(experiment_file(budget=text))


@pytest.mark.parametrize("minutes", [4, 8, 15, 30])
def test_a_budget_is_used_and_kept(minutes: int) -> None:
    made = planned_for(f"{minutes} min")
    assert 0.75 * 60 * minutes < made.total_s <= 60 * minutes * (1 - KEPT_BACK)


def test_predictions_are_sums_of_what_was_timed() -> None:
    """Checked by hand on a plan without polish: 47 steps an epoch, 2 rounds of 10,
    the first drawn at random."""
    stated = {"tune": {"epochs": 4}, "search": {"evaluations": 20, "round_size": 10}}
    made = planned_for(None, polish=None, export={"models": 2}, **stated).seconds
    candidate = 0.4 + 1_000 * 0.001
    assert made["preparing"] == 20
    assert made["tuning"] == pytest.approx(1.0 + 4 * 47 * 0.3 + 2.0)
    assert made["references"] == pytest.approx(0.5 + 2.0 + 0.6 + 6.0)
    assert made["search"] == pytest.approx(4.0 + 2.0 + 20 * candidate)
    asked = 3_000 + 90 + 30
    tests = (0.5 + 0.002 * asked) + (0.6 + 0.006 * asked) + 2 * (0.4 + 0.001 * asked)
    assert made["validation"] == pytest.approx(3.0 + tests)


def test_models_that_are_polished_for_the_forecast_take_time_too() -> None:
    """As long as delivered ones, of which they are seldom some."""
    polish = {"epochs": 10, "teacher": None}
    stated = {"polish": polish, "trials": False, "export": {"models": 3}}
    made = planned_for(None, **stated)
    one = 10 * 47 * 0.2 + 0.4 + 1_000 * 0.001
    assert made.seconds["polish"] == pytest.approx((3 + 2) * one)
    assert any("polish: 8.0 min (10 epochs of 5 models)" in line for line in made.lines())


def test_short_trainings_are_counted() -> None:
    """Three whole ones of a sixth of the tuning, judged twice by two networks; a teacher is asked
    about the samples of each."""
    made = planned_for(None, polish=None, export={"models": 2})
    epochs = made.recipe.experiment.tune.epochs
    steps = min(200, epochs * 47 // 6)
    judged = 2 * 2 * 2.0 * 1_000 / 1_000
    asked = 1.0 * min(1.0, steps * 64 / 3_000)
    assert made.seconds["tuning trials"] == pytest.approx(3 * (asked + steps * 0.3 + judged))
    assert "polish trials" not in made.seconds


def test_longer_budgets_train_search_and_polish_more() -> None:
    short, long = planned_for("6 min"), planned_for("40 min")
    for stage in ("tuning", "search"):
        assert short.seconds[stage] < long.seconds[stage]
    assert short.seconds.get("polish", 0) < long.seconds["polish"]


def test_the_least_that_works_is_told_and_works() -> None:
    with pytest.raises(BudgetError, match="too short for one epoch and one round") as told:
        planned_for("30 s")
    least = str(told.value).rpartition("give at least ")[2]
    assert planned_for(least).total_s <= parse_duration(least)


def test_a_stated_number_wins_over_budget_and_effort() -> None:
    made = planned_for("4 min", tune={"epochs": 100})
    assert made.recipe.experiment.tune.epochs == 100
    assert "tune.epochs are stated and win over budget: 4 min" in made.warning
    assert made.free >= {"tuning"}
    (line,) = planned_for(None, effort="quick", tune={"epochs": 9}).recipe.notes
    assert line == "stated: tune.epochs: 9 wins; effort: quick would make it 5"


def test_an_effort_beside_a_budget_is_the_most() -> None:
    made = planned_for("10 h", effort="quick")
    assert made.recipe.experiment.search.evaluations == 20


def test_slow_models_are_asked_about_fewer_samples() -> None:
    """Judged on what leaves time for 30 of them; tested, 2 + 1 of them, in a quarter of it."""
    given = Experiment.model_validate(
        {"name": "b", "model": {"checkpoint": "c"}, "data": {"name": "d"}, "budget": "10 min"}
    )
    recipe = derive(with_values(given, {"export.models": 1}), FACTS)
    slow = replace(COSTS, sample_s={"int8": 0.02, "fp32": 0.06, "candidate": 0.01})
    assert fewer_samples(given, recipe, COSTS, COUNTS) == {}
    judged, counts = int((600 * 0.3 / 30 - 0.4) / 0.01), replace(COUNTS, test=9_000)
    found = fewer_samples(given, recipe, slow, counts)
    whole = round(judged * 1.4)
    left = int(600 * 0.25 / 0.09) - whole
    assert found == {"max_validation": whole, "max_test": max(2_000, left)}
    stated = with_values(given, {"data.max_validation": 1_400, "data.max_test": 9_000})
    assert fewer_samples(stated, recipe, slow, counts) == {}
    fast = replace(COSTS, sample_s={"int8": 0.01, "fp32": 0.03, "candidate": 0.002})
    left = int(600 * 0.25 / 0.042) - 1_400
    assert 2_000 < left == fewer_samples(given, recipe, fast, counts)["max_test"]


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_stages_share_the_budget_as_predicted(tmp_path: Path) -> None:
    clock = Clock()
    pace = Pace(tmp_path / "pace.json", clock=clock)
    pace.plan(1000, {"preparing": 20, "tuning": 120, "search": 60}, {"search"})
    assert pace.left_s("tuning") == pytest.approx(1000 * (1 - KEPT_BACK) * 140 / 200)
    assert pace.left_s("search") == float("inf")
    clock.now += 30
    pace.enter("tuning")
    clock.now += 50
    pace.keep()
    again = Pace.read(tmp_path / "pace.json", clock)
    assert again.real_s == {"preparing": 30, "tuning": 50}
    assert again.left_s("tuning") == pytest.approx(pace.left_s("tuning"))
    assert again.note() == "1.3 of 16.7 min"


@pytest.mark.parametrize(("taken_s", "end_s"), [(30, 960 - 200), (90, 960 - 3 * 200), (10, 760)])
def test_a_machine_that_became_slower_polishes_less(taken_s: float, end_s: float) -> None:
    """Half of the candidates, in as long as planned, in three times as long, and faster."""
    clock = Clock()
    pace = Pace(clock=clock)
    pace.plan(1000, {"tuning": 100, "search": 60, "polish": 640, "validation": 200}, set())
    ends = dict(pace.ends_s)
    pace.enter("search")
    clock.now += taken_s
    pace.correct(10, 20)
    assert pace.ends_s["polish"] == pytest.approx(min(ends["polish"], end_s))
    assert {**pace.ends_s, "polish": 0} == {**ends, "polish": 0}


@pytest.mark.parametrize(("seconds", "steps"), [(34.0, 35), (1e9, 80), (60.0, 61), (0.0, 3)])
def test_a_training_ends_in_its_time_with_its_schedule(seconds: float, steps: int) -> None:
    """Every step takes a second of this clock, whatever the machine; twice the epochs at most."""
    sizes = VitConfig(image_size=16, patch_size=8, depth=1, embed_dim=24)
    data, network = load_data(DataSettings(name="digits"), model_of(sizes)), supernet(sizes, 10)
    split, settings = data.train.part(torch.arange(64)), TrainSettings(epochs=40, batch_size=64)
    trainer = Trainer(network, split, settings, 0)
    rates: list[float] = []
    clock = Clock()

    def tick(_: Trainer) -> None:
        clock.now += 1
        rates.append(trainer.optimizer.param_groups[0]["lr"])

    end = clock.now + seconds
    trainer.run(checkpoint=tick, left_s=lambda: end - clock.now, room=2.0)
    assert trainer.step_number == steps
    assert rates[-1] < 0.1 * max(rates) or steps == 3


def model_of(sizes: VitConfig) -> ModelSettings:
    return Experiment.model_validate({**TINY, "model": {"vit": sizes}}).model


def test_a_run_that_is_late_ends_with_models(tmp_path: Path) -> None:
    """Of its 8 candidates it measures the fewest it may, and goes on with the rest if allowed."""
    folder, reporter = RunFolder(tmp_path / "late"), Silent()
    folder.path.mkdir()
    search = {"evaluations": 8, "round_size": 8}
    given = Experiment.model_validate({**TINY, **LITTLE, "search": search, "budget": "1 min"})
    data = load_data(given.data, given.model)
    recipe = resolved(given, folder, Facts.of(given, data))
    keep(recipe, folder)
    pace = Pace(folder.pace)
    pace.plan(1e-3, dict.fromkeys(STAGES, 1.0), {"training", "tuning"})
    pace.keep()
    front = run(given, folder, reporter)
    known = searched(read_evaluations(recipe.experiment, folder))
    assert len(known) == 4
    assert any("4 candidates were measured in its time" in line for line in reporter.told)
    assert front.front
    assert {"tuning", "references", "search", "validation"} <= set(read_json(folder.pace)["real_s"])
    assert run(given, folder, reporter) == front
    folder.pace.unlink()
    assert run(given, folder, reporter).evaluations == 10


def test_timed_parts_predict_a_run(tmp_path: Path) -> None:
    """Every stage is planned, with seconds of this machine, and nothing is left open."""
    folder, pace = RunFolder(tmp_path / "planned"), Pace()
    given = Experiment.model_validate({**TINY, "budget": "20 min"})
    data, made = admit(given, folder, pace=pace)
    assert filled(given, made.experiment) == made.experiment
    assert set(pace.predicted_s) == set(STAGES) - {
        "tuning trials",
        "polish trials",
        "polish",
        "template",
    }
    assert all(0 < seconds < 600 for seconds in pace.predicted_s.values())
    assert sum("plan: " in line for line in made.lines()) == len(pace.predicted_s) + 1
    assert len(data.validation) == 278


def test_what_a_budget_leaves_no_time_for_is_said_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = {"max_validation": 60, "max_test": 40}
    monkeypatch.setattr("nas.recipe.resolution.fewer_samples", lambda *_: left)
    given = Experiment.model_validate({**TINY, "budget": "20 min"})
    data, made = admit(given, RunFolder(tmp_path / "planned"))
    assert (len(data.validation), len(data.kept_back or ()), len(data.test)) == (60, 0, 40)
    assert made.experiment.data.max_test == 40
    account = data.source.account.splits
    assert account["test"].left_out == {"beyond data.max_test": account["test"].found - 40}
    told = "\n".join(made.lines())
    assert "derived: data.max_validation: 60 (what the budget leaves for judging" in told
    assert "derived: data.max_test: 40 (what the budget leaves for asking delivered" in told
