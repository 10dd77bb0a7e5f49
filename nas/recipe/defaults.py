"""Every value that an experiment leaves open and that follows from what is known, with its reason.

A value that the experiment states is never touched. `EFFORTS` scale how long is trained and
searched; what is learnt at (rates, weights) does not depend on them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from pydantic import BaseModel

from nas.evaluation.baselines import low_reference
from nas.experiment.given import is_given, with_values
from nas.experiment.schema import Experiment
from nas.recipe.facts import Facts
from nas.recipe.short_steps import LEAST_STEPS, SHARES, part_steps, short_steps
from supernets.settings import PolishSettings, TeacherSettings, TrainSettings

EFFORTS: dict[str, float] = {"quick": 0.25, "standard": 1.0, "thorough": 3.0}
"""Effort -> factor on steps of training and on candidates that are measured."""

EXTENTS = {
    "training": "model.training.epochs",
    "tuning": "tune.epochs",
    "search": "search.evaluations",
    "polish": "polish.epochs",
}
"""Stage -> the number that says how long it is."""
TUNING_STEPS, POLISHING_STEPS, SCRATCH_STEPS = 1200, 2400, 3000
"""At standard effort: of a tuning, of each polish, of a training from scratch; with less of the
last the square root of its factor times as many: what has learnt nothing teaches nothing."""
CLASSIFIER_STEPS = 1000
"""At standard effort, of the plain training that a new classifier gets before the tuning; with
others the square root of their factor times as many. A classifier that knows nothing puts units in
no order and teaches nothing. MiniLM, 4,000 texts of 150 classes, validation accuracy of the full
network and mean of six sub-networks: 126 steps of tuning 74.5 and 67.2 %, 84 after 126 plain ones,
which take as long, 89.2 and 82.8 % (benchmarks/README.md, "Tuning cost")."""
MOST_EPOCHS = {"pretrained": 20, "scratch": 40}
"""At standard effort, however few the samples."""
RATE_AT_384 = 2e-4
"""Of tuning a pretrained transformer whose stream is 384 wide: 2e-4 left its full network at 90.8 %
where training from scratch's 1e-3 left it at 87.3 % (validation; 3,000 texts of 77 classes). Small
weights have a part of it (`relative_rates`)."""
LARGE_BATCH_FROM = 20_000
"""Samples from which batches of 256 still give every epoch enough steps."""
BF16_FROM = 5_000_000
"""Parameters below which conversions take what faster products save."""
TOKEN_MULTIPLE = 8
FURTHEST = 0.02
"""From the low reference, of the models that are offered (`nas/delivery/promise.py`)."""


class Derived(NamedTuple):
    """A value for a field that is left open. where: dotted keys."""

    where: str
    value: Any
    reason: str


class Recipe(NamedTuple):
    """An experiment with nothing left open.

    reasons: dotted keys -> why the value is what it is. notes: lines about stated numbers that
    effort or budget would have made others, and the plan.
    """

    experiment: Experiment
    reasons: Mapping[str, str]
    notes: tuple[str, ...] = ()

    def lines(self) -> Iterator[str]:
        """What was derived, for people."""
        for where, reason in self.reasons.items():
            value = value_at(self.experiment, where)
            shown = "" if isinstance(value, BaseModel) else f" {value}"
            yield f"derived: {where}:{shown} ({reason})"
        yield from self.notes


def derive(experiment: Experiment, facts: Facts, factor: float | None = None) -> Recipe:
    """Fill in what is left open. factor: in place of the effort's."""
    if factor is None:
        factor = EFFORTS[experiment.effort]
    reasons, stated = {}, []
    asked = [name for name in ("budget", "effort") if is_given(experiment, name)]
    if is_given(experiment, "tune.epochs") and not asked:  # a recipe of its own
        own = {"polish": None, "trials": False, "constraints": (), "tune.teacher": False}
        own |= {"model.training": None} if facts.pretrained else {}
        open_ = {where: value for where, value in own.items() if not is_given(experiment, where)}
        experiment = with_values(experiment, open_)
    for section in SECTIONS:
        for derived in section(experiment, facts, factor):
            if not is_given(experiment, derived.where):
                experiment = with_values(experiment, {derived.where: derived.value})
                reasons[derived.where] = derived.reason
            elif derived.where == "trials" and experiment.trials and not derived.value:
                stated.append(f"stated: trials: true tries nothing: {derived.reason}")
            elif derived.where in EXTENTS.values() and asked:
                own = value_at(experiment, derived.where)
                if own != derived.value:
                    by = " and ".join(f"{name}: {getattr(experiment, name)}" for name in asked)
                    stated.append(
                        f"stated: {derived.where}: {own} wins; {by} would make it {derived.value}"
                    )
    return Recipe(experiment, reasons, tuple(stated))


def value_at(experiment: Experiment, where: str) -> Any:
    """The value at dotted keys, None below a section that is null."""
    value: Any = experiment
    for key in where.split("."):
        value = getattr(value, key, None)
    return value


def _goal(experiment: Experiment, facts: Facts, factor: float) -> Iterator[Derived]:
    yield Derived("task", facts.task, "what the data and the checkpoint ask")
    metric, reason = facts.metric, f"what tasks of {facts.task} are scored by"
    stated = [m.quality.name for m in experiment.parsed_objectives() if m.quality is not None]
    if is_given(experiment, "objectives") and stated:
        metric, reason = stated[0], "the first such objective"
    yield Derived("metric", metric, reason)
    metric = experiment.metric or metric
    if metric != "accuracy":
        yield Derived("objectives", (metric, "latency_ms", "size_bytes"), "the metric")


def _question(experiment: Experiment, facts: Facts, factor: float) -> Iterator[Derived]:
    """What is further from the low reference than any need allows is not looked for."""
    if is_given(experiment, "export.accuracy_drop"):
        return  # a need of its own
    metric = experiment.quality
    low = low_reference(row.name for row in experiment.target.references)
    limit = f"{metric.name} >= {low} - {FURTHEST:g}"
    if metric.direction == "minimize":
        limit = f"{metric.name} <= {1 + FURTHEST:g} * {low}"
    yield Derived("constraints", (limit,), "models further away are offered for no need")


def _target(experiment: Experiment, facts: Facts, factor: float) -> Iterator[Derived]:
    if facts.tokens is not None:
        usual, most = facts.tokens
        rounded = -(-usual // TOKEN_MULTIPLE) * TOKEN_MULTIPLE
        tokens = min(rounded, most)
        reason = f"95 % of the training texts have at most {usual} tokens"
        yield Derived("target.sequence_length", tokens, reason)
    if facts.overflows:
        reason = "without VNNI this processor sums INT8 products in 16 bits, which can overflow"
        yield Derived("quantization.reduce_range", True, reason)


def _training(experiment: Experiment, facts: Facts, factor: float) -> Iterator[Derived]:
    """Random weights are trained plainly first; a checkpoint with a classifier is tuned at once."""
    steps, reason = SCRATCH_STEPS, "random weights to start from"
    if facts.pretrained:
        steps, reason = CLASSIFIER_STEPS, "a new classifier, which orders no units yet"
        factor = factor**0.5
    else:
        factor = max(factor, factor**0.5)
    due = facts.new_classifier or not facts.pretrained
    if due and experiment.model.training is None and not is_given(experiment, "model.training"):
        yield Derived("model.training", TrainSettings(), reason)
        experiment = with_values(experiment, {"model.training": TrainSettings()})
    if experiment.model.training is not None:
        yield from _trained(experiment, "model.training", facts, steps * factor, factor)


def _tune(experiment: Experiment, facts: Facts, factor: float) -> Iterator[Derived]:
    yield from _trained(experiment, "tune", facts, TUNING_STEPS * factor, factor)
    training = experiment.model.training
    epochs = _own_epochs(experiment, "tune", facts, TUNING_STEPS * factor, factor)
    anew = facts.new_classifier or not facts.pretrained
    if anew and training is not None and epochs < training.epochs:
        reason = "in fewer epochs than the training before no network gets past what that made"
        yield Derived("tune.teacher", True, reason)


def _trained(
    experiment: Experiment, where: str, facts: Facts, steps: float, factor: float
) -> Iterator[Derived]:
    """What every kind of training has."""
    batch = _batch_size(experiment, where, facts)
    yield Derived(f"{where}.batch_size", batch, f"{facts.samples:,} training samples")
    epochs, reason = _epochs(facts, batch, steps, factor)
    yield Derived(f"{where}.epochs", epochs, reason)
    yield Derived(f"{where}.learning_rate", *_learning_rate(facts))
    if _small_weights_learn_slower(experiment, where, facts):
        reason = "small weights of a checkpoint would be overwritten at the rate of large ones"
        yield Derived(f"{where}.relative_rates", True, reason)
    if facts.pretrained:
        yield Derived(f"{where}.weight_decay", 0.01, "a checkpoint's weights are not shrunk much")
    if facts.bf16 and facts.parameters >= BF16_FROM:
        size = f"{facts.parameters / 1e6:.1f} million parameters"
        yield Derived(f"{where}.precision", "bf16", f"{size}, and this device is faster in it")


def _batch_size(experiment: Experiment, where: str, facts: Facts) -> int:
    if is_given(experiment, f"{where}.batch_size"):
        return int(value_at(experiment, f"{where}.batch_size"))
    return 256 if facts.samples >= LARGE_BATCH_FROM else 64


def _epochs(facts: Facts, batch: int, steps: float, factor: float) -> tuple[int, str]:
    per_epoch = max(1, -(-facts.samples // batch))
    most = MOST_EPOCHS["pretrained" if facts.pretrained else "scratch"] * factor
    epochs = max(1, round(min(most, steps / per_epoch)))
    return epochs, f"about {steps:,.0f} steps of {batch}, at most {most:.3g} epochs"


def _own_epochs(
    experiment: Experiment, where: str, facts: Facts, steps: float, factor: float
) -> int:
    """Stated or derived."""
    if is_given(experiment, f"{where}.epochs"):
        return int(value_at(experiment, f"{where}.epochs"))
    return _epochs(facts, _batch_size(experiment, where, facts), steps, factor)[0]


def _learning_rate(facts: Facts) -> tuple[float, str]:
    if not facts.pretrained:
        return 1e-3, "training from scratch"
    if facts.width is None:
        return 5e-4, "a checkpoint that is no transformer"
    rate = float(f"{RATE_AT_384 * 384 / facts.width:.1g}")
    return rate, f"a checkpoint {facts.width} wide: {RATE_AT_384:g} at 384, less if wider"


def _small_weights_learn_slower(experiment: Experiment, where: str, facts: Facts) -> bool:
    """Where the rate is not stated: who states one means it for all weights.

    The polish goes on as the tuning was, from whose rate its own follows.
    """
    if is_given(experiment, f"{where}.learning_rate"):
        return False
    if where == "polish":
        return experiment.tune.relative_rates
    return facts.pretrained and facts.width is not None


def _search(experiment: Experiment, facts: Facts, factor: float) -> Iterator[Derived]:
    given = experiment.search
    evaluations = max(10, round(10 * factor) * 10)
    if is_given(experiment, "search.round_size"):
        evaluations = max(evaluations, given.round_size)
    yield Derived("search.evaluations", evaluations, "100 candidates at standard effort")
    if is_given(experiment, "search.evaluations"):
        evaluations = given.evaluations
    yield Derived("search.patience", 4, "rounds that add nothing are not worth their time")
    size = min(evaluations, 20 if evaluations >= 80 else 10)
    yield Derived("search.round_size", size, "rounds enough to learn from the ones before")


def _polish(experiment: Experiment, facts: Facts, factor: float) -> Iterator[Derived]:
    if experiment.polish is None:
        if is_given(experiment, "polish"):
            return
        reason = "sub-networks alone gain what they lack beside each other"
        yield Derived("polish", PolishSettings(), reason)
        experiment = with_values(experiment, {"polish": PolishSettings()})
    assert experiment.polish is not None
    yield from _trained_less_rate(experiment, facts, factor)
    rate = 2 * experiment.tune.learning_rate
    yield Derived("polish.learning_rate", rate, "twice the tuning's, as the schedule starts anew")
    noise = 0.15 if facts.noisy and facts.pretrained else 0.0
    if noise:
        reason = "the network reads more texts than there are"
        yield Derived("polish.token_noise", noise, reason)
    if is_given(experiment, "polish.token_noise"):
        noise = experiment.polish.token_noise
    if noise:
        yield Derived("polish.hard_label_weight", 0.0, "of changed texts the teacher knows more")
    yield Derived("polish.feature_weight", 1.0, "what the classifier reads is taught")
    yield Derived("polish.block_weight", 0.5, "keeps what the blocks knew")
    if factor >= 1 and not facts.taught_alone:
        epochs = _own_epochs(experiment, "polish", facts, POLISHING_STEPS * factor, factor)
        teacher = TeacherSettings(epochs=epochs, learning_rate=rate / 2)
        yield Derived("polish.teacher", teacher, "a better teacher, kept if validation finds it so")
    if factor >= 1 and experiment.budget is None:
        reason = "the others are judged by what they will score after it"
        yield Derived("polish.probes", 2, reason)


def _trained_less_rate(experiment: Experiment, facts: Facts, factor: float) -> Iterator[Derived]:
    for derived in _trained(experiment, "polish", facts, POLISHING_STEPS * factor, factor):
        if not derived.where.endswith("learning_rate"):
            yield derived


def _trials(experiment: Experiment, facts: Facts, factor: float) -> Iterator[Derived]:
    if factor <= EFFORTS["quick"]:
        return
    stated = is_given(experiment, "trials")
    if factor < 1 and experiment.budget is not None and not stated:
        reason = "less than standard effort fits: its time goes into the trainings themselves"
        yield Derived("trials", False, reason)
        return
    if any(short_steps(value_at(experiment, s), s, facts.samples) for s in SHARES):
        yield Derived("trials", True, "part of a long training says what the data wants")
        return
    steps = (f"{part_steps(value_at(experiment, s), s, facts.samples)} of {s}" for s in SHARES)
    reason = f"there are too few steps to try settings in ({', '.join(steps)}; {LEAST_STEPS} tell)"
    yield Derived("trials", False, reason)


def _export(experiment: Experiment, facts: Facts, factor: float) -> Iterator[Derived]:
    if experiment.polish is not None or factor < 1:
        models = 1 if factor < 0.1 else 2 if factor < 1 else 3 if factor < 2 else 5
        yield Derived("export.models", models, "each is polished and tested alone")


SECTIONS = (_goal, _question, _target, _training, _tune, _search, _polish, _trials, _export)
"""In an order in which each sees what the ones before it derived."""
