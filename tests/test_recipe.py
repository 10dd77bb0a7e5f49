"""What an experiment leaves open follows from what is known, and what it states stays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from nas.delivery.promise import allowed_drops
from nas.experiment.load import dump_experiment, load_experiment
from nas.experiment.schema import Experiment
from nas.recipe import defaults
from nas.recipe.defaults import EFFORTS, derive, value_at
from nas.recipe.facts import Facts
from nas.recipe.resolution import continued, keep, resolved
from nas.recipe.short_steps import LEAST_STEPS, SHARES
from nas.run.run_folder import RunFolder
from supernets.data.data import TaskData
from supernets.families.super_network import WEIGHTS_FILE
from supernets.load import load_data
from supernets.metrics.classes import ACCURACY

TEXTS = Facts(True, 384, 22_000_000, 3_000, (13, 512), True, True)
"""A pretrained text network, on a machine that multiplies bfloat16."""
THREE = {"name": "three", "model": {"checkpoint": "somewhere"}, "data": {"name": "some"}}
SCRATCH = {"name": "three", "model": {"vit": {"depth": 2}}, "data": {"name": "digits"}}


def experiment(**sections: object) -> Experiment:
    return Experiment.model_validate({**THREE, **sections})


@pytest.fixture(scope="module")
def digits() -> TaskData:
    given = Experiment.model_validate(SCRATCH)
    return load_data(given.data, given.model)


def test_a_checkpoint_learns_at_another_rate_than_random_weights() -> None:
    def rate(facts: Facts) -> object:
        return value_at(derive(experiment(), facts).experiment, "tune.learning_rate")

    assert rate(TEXTS) == 2e-4
    assert rate(replace(TEXTS, width=768)) == 1e-4
    assert rate(replace(TEXTS, pretrained=False)) == 1e-3


def test_a_new_classifier_is_trained_plainly_first() -> None:
    """And teaches a short tuning; not one that a checkpoint brings, nor where the file says so."""
    new = replace(TEXTS, new_classifier=True)
    given = derive(experiment(), new).experiment
    assert given.model.training is not None
    assert given.model.training.learning_rate == given.tune.learning_rate
    assert not given.tune.teacher
    assert derive(experiment(effort="quick"), new).experiment.tune.teacher
    stated_away: dict[str, object] = {"model": {"checkpoint": "somewhere", "training": None}}
    others: list[tuple[Facts, dict[str, object]]] = [
        (TEXTS, {}),
        (new, stated_away),
        (new, {"tune": {"epochs": 3}}),
    ]
    for facts, stated in others:
        plain = derive(experiment(**stated), facts).experiment
        assert plain.model.training is None
        assert not plain.tune.teacher


def test_less_time_takes_less_of_the_other_stages_than_of_learning_from_random_weights() -> None:
    """What has learnt nothing teaches nothing."""
    facts = replace(TEXTS, pretrained=False, samples=64_000)
    short, usual, long = (
        derive(experiment(model={"vit": {}}), facts, factor).experiment for factor in (1 / 9, 1, 3)
    )
    for given, part, rest in ((short, 1 / 3, 1 / 9), (usual, 1, 1), (long, 3, 3)):
        assert given.model.training is not None
        per_epoch = -(-64_000 // given.tune.batch_size)
        trained = given.model.training.epochs * per_epoch
        assert trained == pytest.approx(part * defaults.SCRATCH_STEPS, abs=per_epoch)
        tuned = given.tune.epochs * per_epoch
        assert tuned == pytest.approx(rest * defaults.TUNING_STEPS, abs=per_epoch)


@pytest.mark.parametrize(
    ("stated", "teaches"),
    [
        ({}, True),
        ({"model": {"vit": {}, "training": {"epochs": 5}}}, False),
        ({"tune": {"epochs": 3}}, False),
        ({"effort": "quick", "tune": {"epochs": 3}}, True),
        ({"tune": {"teacher": False}}, False),
    ],
)
def test_what_was_trained_from_random_weights_teaches_a_shorter_tuning(
    stated: dict[str, object], teaches: bool
) -> None:
    """Not a longer one, nor where the file has a recipe of its own."""
    scratch = replace(TEXTS, pretrained=False)
    given = derive(experiment(**{"model": {"vit": {}}, **stated}), scratch).experiment
    assert given.tune.teacher == teaches


def test_less_time_takes_less_of_the_plain_training() -> None:
    """A sixteenth of the tuning comes with a quarter of it."""
    facts = replace(TEXTS, new_classifier=True, samples=64_000)
    short, long = (derive(experiment(), facts, factor).experiment for factor in (1 / 16, 1.0))
    assert short.model.training is not None
    assert long.model.training is not None
    assert (short.model.training.epochs, long.model.training.epochs) == (1, 4)
    assert (short.tune.epochs, long.tune.epochs) == (1, 5)


@pytest.mark.parametrize(
    ("facts", "stated", "expected"),
    [
        (TEXTS, {}, (True, True)),
        (TEXTS, {"tune": {"learning_rate": 1e-4}}, (False, False)),
        (TEXTS, {"polish": {"learning_rate": 1e-4}}, (True, False)),
        (replace(TEXTS, pretrained=False), {}, (False, False)),
        (replace(TEXTS, width=None), {}, (False, False)),
    ],
)
def test_small_weights_of_a_checkpoint_learn_slower_unless_a_rate_is_stated(
    facts: Facts, stated: dict[str, object], expected: tuple[bool, bool]
) -> None:
    derived = derive(experiment(**stated), facts).experiment
    assert derived.polish is not None
    assert (derived.tune.relative_rates, derived.polish.relative_rates) == expected


@pytest.mark.parametrize(
    ("tokens", "length"), [((12, 512), 16), ((16, 512), 16), ((19, 20), 20), ((100, 512), 104)]
)
def test_latency_is_measured_where_texts_usually_end(tokens: tuple[int, int], length: int) -> None:
    recipe = derive(experiment(), replace(TEXTS, tokens=tokens))
    assert recipe.experiment.target.sequence_length == length
    assert str(tokens[0]) in recipe.reasons["target.sequence_length"]


@pytest.mark.parametrize(
    ("provider", "flags", "reduced"),
    [
        ("cpu", ("avx2",), True),
        ("cpu", ("avx2", "avx512f"), True),
        ("cpu", ("avx2", "avx_vnni"), False),
        ("cpu", ("asimddp",), False),
        ("openvino", ("avx2",), False),
    ],
)
def test_weights_have_half_their_range_where_full_ones_overflow(
    digits: TaskData,
    monkeypatch: pytest.MonkeyPatch,
    provider: str,
    flags: tuple[str, ...],
    reduced: bool,
) -> None:
    monkeypatch.setattr("nas.recipe.facts.cpu_flags", lambda: flags)
    given = Experiment.model_validate({**SCRATCH, "target": {"provider": provider}})
    recipe = derive(given, Facts.of(given, digits))
    assert ("quantization.reduce_range" in recipe.reasons) == reduced
    own = Experiment.model_validate({**SCRATCH, "quantization": {"reduce_range": False}})
    kept = derive(own, replace(TEXTS, overflows=True))
    assert kept.experiment.quantization.reduce_range is False
    assert derive(given, replace(TEXTS, overflows=True)).experiment.quantization.reduce_range


def test_the_usual_length_is_the_95th_percentile(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    words = [" ".join(["word"] * n) for n in rng.integers(1, 40, 200)]
    rows = [f"{text},{'ab'[i % 2]}" for i, text in enumerate(words)]
    (tmp_path / "data.csv").write_text("\n".join(["text,label", *rows]))
    given = Experiment.model_validate(
        {**THREE, "model": {"bert": {"depth": 1}}, "data": {"name": str(tmp_path / "data.csv")}}
    )
    data = load_data(given.data, given.model)
    (batch,) = data.train.batches(1000)
    lengths = np.sort(batch.inputs["attention_mask"].sum(1).numpy())
    facts = Facts.of(given, data)
    assert facts.tokens is not None
    usual, most = facts.tokens
    assert (lengths <= usual).mean() >= 0.95 > (lengths <= usual - 1).mean()
    assert most == 128


def test_what_is_stated_stays_and_is_not_explained() -> None:
    stated = {
        "tune": {"epochs": 7, "learning_rate": 0.01},
        "polish": None,
        "search": {"evaluations": 33},
        "target": {"sequence_length": 128},
    }
    recipe = derive(experiment(**stated), TEXTS)
    kept = ("tune.epochs", "tune.learning_rate", "search.evaluations", "target.sequence_length")
    values = [7, 0.01, 33, 128]
    assert [value_at(recipe.experiment, where) for where in kept] == values
    assert recipe.experiment.polish is None
    assert not {"polish", *kept} & set(recipe.reasons)


def test_of_a_stated_section_the_rest_is_derived() -> None:
    recipe = derive(experiment(polish={"epochs": 3}), TEXTS)
    assert recipe.experiment.polish is not None
    assert recipe.experiment.polish.epochs == 3
    assert recipe.experiment.polish.learning_rate == 2 * recipe.experiment.tune.learning_rate
    assert recipe.experiment.polish.token_noise > 0


def test_images_have_no_tokens_to_replace() -> None:
    facts = replace(TEXTS, tokens=None, noisy=False)
    recipe = derive(experiment(), facts)
    assert recipe.experiment.polish is not None
    assert recipe.experiment.polish.token_noise == 0
    assert recipe.experiment.target.sequence_length is None


def test_a_recipe_of_its_own_is_polished_only_where_it_says_so() -> None:
    tune = {"epochs": 5}
    assert derive(experiment(tune=tune), TEXTS).experiment.polish is None
    for name, value in (("effort", "standard"), ("budget", "30 min"), ("polish", {})):
        asked = experiment(tune=tune, **{name: value})
        assert derive(asked, TEXTS).experiment.polish is not None


def test_a_search_looks_where_something_can_be_offered() -> None:
    """Within two points of the low reference, unless the file says what it asks for."""

    def asked(**sections: object) -> tuple[str, ...]:
        return derive(experiment(**sections), TEXTS).experiment.constraints

    assert asked() == ("accuracy >= int8 - 0.02",)
    assert asked(metric="mae", objectives=["mae", "latency_ms"]) == ("mae <= 1.02 * int8",)
    assert asked(constraints=[]) == ()
    assert asked(export={"accuracy_drop": 0.1}) == ()
    assert asked(tune={"epochs": 5}) == ()
    for constraint in derive(experiment(), TEXTS).experiment.parsed_constraints():
        drops = allowed_drops(ACCURACY, 0.9, 0.005)
        assert constraint.offset == pytest.approx(-max(drops.values()))


@pytest.mark.parametrize("where", ["tune.epochs", "search.evaluations", "polish.epochs"])
def test_more_effort_is_more_of_everything(where: str) -> None:
    derived = [derive(experiment(effort=effort), TEXTS).experiment for effort in EFFORTS]
    values = [value_at(given, where) for given in derived]
    assert values == sorted(values)
    assert values[0] < values[-1]


@pytest.mark.parametrize("samples", [2, 500, 10_000, 1_000_000])
@pytest.mark.parametrize("pretrained", [True, False])
@pytest.mark.parametrize("effort", EFFORTS)
def test_whatever_is_derived_is_valid(samples: int, pretrained: bool, effort: str) -> None:
    facts = replace(TEXTS, samples=samples, pretrained=pretrained)
    given = derive(experiment(effort=effort), facts).experiment
    assert Experiment.model_validate(given.model_dump(mode="json")) == given


def test_the_written_file_says_where_values_come_from(tmp_path: Path) -> None:
    recipe = derive(experiment(polish={"temperature": 2}), TEXTS)
    text = dump_experiment(recipe.experiment, recipe.reasons)
    (tmp_path / "again.yaml").write_text(text)
    assert load_experiment(tmp_path / "again.yaml") == recipe.experiment
    assert yaml.safe_load(text)["tune"]["learning_rate"] == 2e-4
    commented = list(commented_keys(text))
    assert sorted(commented) == sorted(recipe.reasons)


def commented_keys(text: str) -> Iterator[str]:
    """Dotted keys of the lines with a comment, by PyYAML's own reading of where keys stand."""

    def walk(node: yaml.Node, prefix: str) -> Iterator[tuple[int, str]]:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                yield key.start_mark.line, f"{prefix}{key.value}"
                yield from walk(value, f"{prefix}{key.value}.")

    root = yaml.compose(text)
    assert root is not None
    lines = text.splitlines()
    return (name for line, name in walk(root, "") if "# from" in lines[line])


@pytest.fixture
def started(tmp_path: Path, digits: TaskData) -> RunFolder:
    """A folder of a run that was started with three lines, on a machine of other speed."""
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    given = Experiment.model_validate(SCRATCH)
    facts = replace(Facts.of(given, digits), bf16=True, parameters=10_000_000)
    keep(derive(given, facts), folder)
    return folder


def test_a_run_that_goes_on_keeps_what_was_derived(started: RunFolder, digits: TaskData) -> None:
    given = continued(Experiment.model_validate(SCRATCH), started)
    again = resolved(given, started, Facts.of(given, digits))
    assert again.experiment == load_experiment(started.experiment)
    assert again.experiment.tune.precision == "bf16"
    before = started.experiment.read_text()
    keep(again, started)
    assert started.experiment.read_text() == before


def test_another_effort_changes_only_what_may_change(started: RunFolder, digits: TaskData) -> None:
    given = continued(Experiment.model_validate({**SCRATCH, "effort": "quick"}), started)
    again, before = (
        resolved(given, started, Facts.of(given, digits)),
        load_experiment(started.experiment),
    )
    assert again.experiment.tune == before.tune
    assert again.experiment.search.evaluations < before.search.evaluations
    assert "search.evaluations" in again.reasons
    assert "tune.epochs" in again.reasons


def test_a_budget_after_the_tuning_changes_nothing(started: RunFolder, digits: TaskData) -> None:
    """No stage is planned then: values of the effort in their place would polish models anew."""
    started.supernet.mkdir()
    (started.supernet / WEIGHTS_FILE).touch()
    given = continued(Experiment.model_validate({**SCRATCH, "budget": "10 s"}), started)
    again, before = (
        resolved(given, started, Facts.of(given, digits)),
        load_experiment(started.experiment),
    )
    assert again.experiment == before.model_copy(update={"budget": given.budget})
    assert again.notes == (
        "budget: 10 s comes after the tuning, so nothing is planned anew; state "
        "search.evaluations for more candidates, or give another --out",
    )


def test_a_super_network_without_its_experiment_is_gone_on_with(
    tmp_path: Path, digits: TaskData
) -> None:
    folder = RunFolder(tmp_path)
    folder.supernet.mkdir()
    (folder.supernet / WEIGHTS_FILE).touch()
    given = continued(Experiment.model_validate({**SCRATCH, "budget": "10 s"}), folder)
    assert not resolved(given, folder, Facts.of(given, digits)).notes


def test_check_tells_what_it_derived(
    experiment_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from typer.testing import CliRunner

    from cli import app

    path = experiment_file(search={"round_size": 10, "generations": 10})
    monkeypatch.setenv("COLUMNS", "200")
    outcome = CliRunner().invoke(app, ["check", str(path)])
    assert outcome.exit_code == 0
    assert "derived: search.evaluations: 100" in outcome.output
    assert "derived: tune.epochs" not in outcome.output


def test_the_page_says_what_is_derived() -> None:
    page = Path("docs/explanation/recipe.md").read_text(encoding="utf-8")
    limits = (defaults.MOST_EPOCHS["pretrained"], defaults.MOST_EPOCHS["scratch"])
    told = (
        f"first, {defaults.SCRATCH_STEPS:,} and {defaults.CLASSIFIER_STEPS:,} steps",
        f"about {defaults.TUNING_STEPS:,} steps of tuning and {defaults.POLISHING_STEPS:,} of each",
        "at most {} epochs of a checkpoint, {} from scratch".format(*limits),
        f"256 from {defaults.LARGE_BATCH_FROM:,} samples on",
        f"the next multiple of {defaults.TOKEN_MULTIPLE}",
        f"nothing further than {100 * defaults.FURTHEST:.0f} points",
        "a sixth of the tuning, a tenth of a polish, 60 steps at least",
    )
    assert [line for line in told if line not in page] == []
    assert (SHARES, LEAST_STEPS) == ({"tune": 6, "polish": 10}, 60)
    assert EFFORTS == {"quick": 0.25, "standard": 1.0, "thorough": 3.0}
