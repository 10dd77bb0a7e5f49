"""What the parts of a run cost on this machine, from a few timed steps and evaluations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch

from hardware.files import cache_folder
from hardware.graph.template import Template
from hardware.portability.runtimes import parse_runtime
from nas.cost_models import supernet_problem
from nas.evaluation.baselines import PLAIN, reference_candidates
from nas.evaluation.candidate import Candidate
from nas.evaluation.candidate_builder import CandidateBuilder
from nas.experiment.schema import Experiment
from nas.recipe.stopwatch import timed
from nas.recipe.timed_candidates import candidate_costs, part_of, rounding_s, typical, unrounded
from nas.run_session import candidate_builder
from nas.search.problem import History, SearchProblem
from nas.search.strategy import make_strategy
from supernets.data.data import Split, TaskData
from supernets.families.super_network import SuperNetwork
from supernets.open_data import noisy
from supernets.settings import TrainSettings
from supernets.space.space import SearchSpace
from supernets.training.order_by_importance import order_by_importance
from supernets.training.train import Trainer, keep_freed_memory, score, training_device
from supernets.training.tune import Distiller, InstaTuner, Polisher
from supernets.training.waiting import waiting_by_load

TIMED_STEPS, TIMED_S = 6, 4.0
"""Steps of each training that are timed, and seconds after which no more are."""
GPU_STEPS, GPU_S = 40, 8.0
"""The same on a GPU, whose kernels are loaded when they are first used: the first steps on an H100
took ten times as long as later ones, so that the faster half counts."""
TIMED_SHARE = 1 / 200
"""Of a budget, which is as long at most; there are four trainings."""
TIMED_SAMPLES = 128
"""Of validation, for whose time in torch that of all is taken in proportion."""


class Untuned(NamedTuple):
    """What is there before anything is trained."""

    network: SuperNetwork
    space: SearchSpace
    template: Template


@dataclass(frozen=True)
class Training:
    """Seconds of one training: once, and for every step."""

    once_s: float = 0.0
    step_s: float = 0.0

    def of(self, steps: float) -> float:
        """Seconds of so many steps."""
        return self.once_s + steps * self.step_s


@dataclass(frozen=True)
class Costs:
    """Seconds of the parts of a run on this machine.

    accuracy_s: in torch, of all validation samples. sample_s, other_s: see `CandidateCosts`.
    round_s: of proposing a round. rounding_s: see the function of this name.
    """

    training: Training
    tuning: Training
    teacher: Training
    polish: Training
    accuracy_s: float
    sample_s: dict[str, float]
    other_s: dict[str, float]
    round_s: float
    rounding_s: Sequence[float] = (0.0,)


def measure(experiment: Experiment, data: TaskData, untuned: Untuned) -> Costs:
    """Time a few steps and evaluations of an experiment with nothing left open."""
    split, (network, space, template) = data.train, untuned
    keep_freed_memory()  # as trainings do
    network.activate({})
    builder = candidate_builder(experiment, data, network, space, template)
    if experiment.quantization.int4_kernel == "auto":
        named = [parse_runtime(name) for name in experiment.export.verify]
        builder = builder.with_fastest_int4(cache_folder(), named)
    builder, seed = unrounded(builder), experiment.seed
    tune, scheme, budget_s = experiment.tune, builder.scheme, experiment.budget_s
    plain, full, part = Training(), Training(), Training()
    if experiment.model.training is not None:
        settings = experiment.model.training
        plain = _timed(Trainer(deepcopy(network), split, settings, seed), budget_s)
    few = _samples_to_time(split, tune)
    tuner = InstaTuner(deepcopy(network), space, few, tune, seed, scheme)
    tuning = _timed(tuner, budget_s, len(split) / len(few))
    ordering = _ordering(experiment, data, deepcopy(network))
    tuning = Training(tuning.once_s + ordering, tuning.step_s)
    candidates = typical(builder, seed)
    sampled = space.sample(experiment.search.evaluations, np.random.default_rng(seed))
    first_s = rounding_s(builder, candidates[0], sampled)
    if experiment.polish is not None:
        part = _polishing(experiment, data, network, builder, candidates[0])
        if experiment.polish.teacher is not None:
            reference = reference_candidates(builder)[PLAIN]
            full = _polishing(experiment, data, network, builder, reference)
    costs = candidate_costs(builder, experiment.evaluate, data.validation, candidates)
    few = part_of(data.validation, TIMED_SAMPLES)
    network.activate({})  # evaluations leave it as they used it
    _, accuracy_s = timed(lambda: score(network, few, experiment.quality))
    problem = supernet_problem(experiment, builder, dict.fromkeys(("fp32", "fp16", "int8"), _ANY))
    return Costs(
        plain, tuning, full, part, accuracy_s / len(few) * len(data.validation),
        *costs, _proposing(experiment, problem), first_s,
    )  # fmt: skip


class _AnyMetric(dict[str, float]):
    """Metrics of a reference that was not measured: what is proposed takes as long whatever."""

    def __missing__(self, key: str) -> float:
        return 0.5


_ANY = _AnyMetric()


def _timed_steps(device: torch.device) -> int:
    return GPU_STEPS if device.type == "cuda" else TIMED_STEPS


def _samples_to_time(split: Split, settings: TrainSettings) -> Split:
    """Training samples for all steps that are timed: a teacher is asked about no more."""
    steps = 1 + _timed_steps(training_device(settings.device))
    return part_of(split, steps * settings.batch_size)


@waiting_by_load()
def _timed(trainer: Trainer, budget_s: float | None = None, parts: float = 1.0) -> Training:
    """Where a frozen network teaches, the first step may ask it about all samples: of as many
    `parts` as the samples of a run are."""
    on_gpu = trainer.network.device.type == "cuda"
    most, most_s = _timed_steps(trainer.network.device), GPU_S if on_gpu else TIMED_S
    most_s = min(most_s, TIMED_SHARE * (budget_s or math.inf))
    asked = isinstance(trainer, Distiller) and trainer.teacher is not None
    _, first = timed(trainer.step)
    if first > most_s and not (asked or on_gpu):
        return Training(0.0, first)
    taken = list[float]()
    while len(taken) < min(most, max(1, trainer.total_steps - 1)) and sum(taken) <= most_s:
        taken.append(timed(trainer.step)[1])
    step_s = float(np.mean(sorted(taken)[: -(-len(taken) // 2)] if on_gpu else taken))
    return Training(parts * max(0.0, first - step_s) if asked else 0.0, step_s)


def _ordering(experiment: Experiment, data: TaskData, network: SuperNetwork) -> float:
    settings = experiment.tune
    device = training_device(settings.device)
    network, most = network.to(device), settings.importance_batches
    batches = list(islice(data.train.batches(settings.batch_size, device=device), min(2, most)))
    for part in (batches[:1], batches):  # the first batch alone where it is slow
        _, taken = timed(partial(order_by_importance, network, part, data.train.task))
        if taken > TIMED_S:
            break
    of_run = -(-len(data.train) // settings.batch_size)
    return taken / len(part) * min(of_run, most)


def _polishing(
    experiment: Experiment,
    data: TaskData,
    network: SuperNetwork,
    builder: CandidateBuilder,
    candidate: Candidate,
) -> Training:
    settings = experiment.polish
    assert settings is not None
    copy, few = deepcopy(network), _samples_to_time(noisy(data, settings.token_noise), settings)
    levels, parts = builder.round_copy(copy, candidate), len(data.train) / len(few)
    polisher = Polisher(
        copy, deepcopy(network), dict(candidate.architecture), candidate.policy,
        few, settings, experiment.seed, builder.scheme, levels,
    )  # fmt: skip
    polisher.kept_share /= parts
    return _timed(polisher, experiment.budget_s, parts)


def _proposing(experiment: Experiment, problem: SearchProblem) -> float:
    """Of a round in the middle of the search; what was measured by then is drawn at random."""
    rng, settings = np.random.default_rng(experiment.seed), experiment.search
    known = problem.space.sample(max(10, settings.evaluations // 2), rng)
    values = rng.uniform(0.5, 1.0, (len(known), len(problem.metrics)))
    history = History.empty(problem).append(known, values)
    strategy = make_strategy(problem, settings, experiment.seed)
    return timed(lambda: strategy.propose(history, settings.round_size))[1]
