"""What the parts of a run cost on this machine, from a few timed steps and evaluations."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch

from hardware.files import cache_folder
from hardware.graph.template import Template
from hardware.portability.runtimes import parse_runtime
from nas.cost_models import supernet_problem
from nas.evaluation.baselines import PLAIN, low_reference, reference_candidates
from nas.evaluation.candidate import Candidate
from nas.evaluation.candidate_builder import CandidateBuilder
from nas.evaluation.latency_cache import LatencyCache
from nas.evaluation.latency_meter import LocalLatency
from nas.experiment.schema import Experiment
from nas.run_session import SCORE_METERS, candidate_builder
from nas.search.problem import History, SearchProblem
from nas.search.strategy import make_strategy
from supernets.data.data import Split, TaskData
from supernets.families.super_network import SuperNetwork
from supernets.open_data import noisy
from supernets.space.space import SearchSpace
from supernets.training.order_by_importance import order_by_importance
from supernets.training.train import Trainer, score, training_device
from supernets.training.tune import Distiller, InstaTuner, Polisher

Result = TypeVar("Result")

TIMED_STEPS, TIMED_S = 6, 4.0
"""Steps of each training that are timed, and seconds after which no more are, from the third on."""
GPU_STEPS, GPU_S = 40, 8.0
"""The same on a GPU, whose kernels are loaded when they are first used: the first steps on an H100
took ten times as long as later ones, so that the faster half counts."""
TIMED_SAMPLES = 128
"""Of validation, for whose time that of all is taken in proportion."""
TIMED_CANDIDATES = 3


class Untuned(NamedTuple):
    """What is there before anything is trained. template_s: seconds in which it was exported."""

    network: SuperNetwork
    space: SearchSpace
    template: Template
    template_s: float


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

    accuracy_s: in torch, of all validation samples. sample_s: of one sample in ONNX Runtime, by
    reference and, under "candidate", of sub-networks. other_s: building and timing, likewise.
    round_s: of proposing a round.
    """

    training: Training
    tuning: Training
    teacher: Training
    polish: Training
    accuracy_s: float
    template_s: float
    sample_s: dict[str, float]
    other_s: dict[str, float]
    round_s: float


def measure(experiment: Experiment, data: TaskData, untuned: Untuned) -> Costs:
    """Time a few steps and evaluations of an experiment with nothing left open."""
    seconds, split = _Stopwatch(), data.train
    network, space, template, template_s = untuned
    network.activate({})
    builder = candidate_builder(experiment, data, network, space, template)
    if experiment.quantization.int4_kernel == "auto":
        named = [parse_runtime(name) for name in experiment.export.verify]
        builder = builder.with_fastest_int4(cache_folder(), named)
    tune, seed, scheme = experiment.tune, experiment.seed, builder.scheme
    plain, full, part = Training(), Training(), Training()
    if experiment.model.training is not None:
        settings = experiment.model.training
        plain = _timed(Trainer(deepcopy(network), split, settings, seed))
    tuning = _timed(InstaTuner(deepcopy(network), space, split, tune, seed, scheme))
    ordering = _ordering(experiment, data, deepcopy(network))
    tuning = Training(tuning.once_s + ordering, tuning.step_s)
    candidates = _candidates(space, seed)
    if experiment.polish is not None:
        part = _polishing(experiment, data, network, builder, candidates[0])
        if experiment.polish.teacher is not None:
            reference = reference_candidates(builder)[PLAIN]
            full = _polishing(experiment, data, network, builder, reference)
    sample_s, other_s = _evaluations(experiment, data, builder, candidates)
    few = _first(data.validation)
    network.activate({})  # evaluations leave it as they used it
    _, accuracy_s = seconds(lambda: score(network, few, experiment.quality))
    problem = supernet_problem(experiment, builder, dict.fromkeys(("fp32", "fp16", "int8"), _ANY))
    return Costs(
        plain, tuning, full, part, accuracy_s / len(few) * len(data.validation),
        template_s, sample_s, other_s, _proposing(experiment, problem),
    )  # fmt: skip


class _AnyMetric(dict[str, float]):
    """Metrics of a reference that was not measured: what is proposed takes as long whatever."""

    def __missing__(self, key: str) -> float:
        return 0.5


_ANY = _AnyMetric()


def _first(split: Split) -> Split:
    """The beginning of a split."""
    return split.part(torch.arange(min(TIMED_SAMPLES, len(split))))


@dataclass(frozen=True)
class _Stopwatch:
    clock: Callable[[], float] = time.perf_counter

    def __call__(self, work: Callable[[], Result]) -> tuple[Result, float]:
        """What some work gives, and the seconds it took."""
        started = self.clock()
        return work(), self.clock() - started


def _timed(trainer: Trainer) -> Training:
    """Where a frozen network teaches, the first step may ask it about all samples."""
    seconds, taken = _Stopwatch(), list[float]()
    on_gpu = trainer.network.device.type == "cuda"
    most, most_s = (GPU_STEPS, GPU_S) if on_gpu else (TIMED_STEPS, TIMED_S)
    _, first = seconds(trainer.step)
    for _ in range(min(most, max(1, trainer.total_steps - 1))):
        taken.append(seconds(trainer.step)[1])
        if sum(taken) > most_s and len(taken) >= 3:
            break
    step_s = float(np.mean(sorted(taken)[: -(-len(taken) // 2)] if on_gpu else taken))
    asked = isinstance(trainer, Distiller) and trainer.teacher is not None
    return Training(max(0.0, first - step_s) if asked else 0.0, step_s)


def _ordering(experiment: Experiment, data: TaskData, network: SuperNetwork) -> float:
    settings = experiment.tune
    device = training_device(settings.device)
    network, count = network.to(device), min(2, settings.importance_batches)
    batches = list(islice(data.train.batches(settings.batch_size, device=device), count))
    _, taken = _Stopwatch()(lambda: order_by_importance(network, batches, data.train.task))
    of_run = -(-len(data.train) // settings.batch_size)
    return taken / len(batches) * min(of_run, settings.importance_batches)


def _candidates(space: SearchSpace, seed: int) -> list[Candidate]:
    genomes = space.sample(TIMED_CANDIDATES, np.random.default_rng(seed))
    return [Candidate.from_genome(space, genome) for genome in genomes]


def _polishing(
    experiment: Experiment,
    data: TaskData,
    network: SuperNetwork,
    builder: CandidateBuilder,
    candidate: Candidate,
) -> Training:
    settings = experiment.polish
    assert settings is not None
    copy = deepcopy(network)
    levels = builder.round_copy(copy, candidate)
    polisher = Polisher(
        copy, deepcopy(network), dict(candidate.architecture), candidate.policy,
        noisy(data, settings.token_noise), settings, experiment.seed, builder.scheme, levels,
    )  # fmt: skip
    return _timed(polisher)


def _evaluations(
    experiment: Experiment,
    data: TaskData,
    builder: CandidateBuilder,
    candidates: list[Candidate],
) -> tuple[dict[str, float], dict[str, float]]:
    """Seconds of a sample, and of all else, of the references and of sub-networks on average."""
    few, seconds = _first(data.validation), _Stopwatch()
    meter = SCORE_METERS[experiment.evaluate](builder, few)
    references = reference_candidates(builder)
    names = [low_reference(references), PLAIN]  # in the order in which latency needs them
    sample_s: dict[str, float] = {}
    other_s: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:  # not the cache: these weights are nobody's
        latency = LocalLatency(builder, references[names[0]], LatencyCache(Path(folder)))

        def evaluate(candidate: Candidate) -> tuple[float, float]:
            built, building_s = seconds(lambda: builder.build(candidate))
            _, timing_s = seconds(lambda: latency.begin(built)())
            _, accuracy_s = seconds(lambda: meter.predictions(built))
            return accuracy_s / len(few), building_s + timing_s

        for name in names:
            sample_s[name], other_s[name] = evaluate(references[name])
        found = np.array([evaluate(candidate) for candidate in candidates])
    sample_s["candidate"], other_s["candidate"] = found.mean(axis=0).tolist()
    return sample_s, other_s


def _proposing(experiment: Experiment, problem: SearchProblem) -> float:
    """Of a round in the middle of the search; what was measured by then is drawn at random."""
    rng, settings = np.random.default_rng(experiment.seed), experiment.search
    known = problem.space.sample(max(10, settings.evaluations // 2), rng)
    values = rng.uniform(0.5, 1.0, (len(known), len(problem.metrics)))
    history = History.empty(problem).append(known, values)
    strategy = make_strategy(problem, settings, experiment.seed)
    return _Stopwatch()(lambda: strategy.propose(history, settings.round_size))[1]
