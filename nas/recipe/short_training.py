"""Short trainings as they are tried: of a super-network, and of a sub-network alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import nn

from hardware.formats.policy import QuantPolicy
from nas.evaluation.error_feedback import ErrorFeedback, round_active
from nas.experiment.schema import Experiment
from nas.recipe.trials import LOOKS, Answers
from supernets.data.data import Batch, Split, TaskData, calibration_batches
from supernets.families.super_network import SuperNetwork
from supernets.layers.batch_norm import recalibrate
from supernets.load import load_supernet
from supernets.open_data import noisy
from supernets.settings import PolishSettings, TuneSettings
from supernets.space.space import Architecture, SearchSpace
from supernets.tasks.predictions import Predictions
from supernets.training.train import Trainer, keep_freed_memory
from supernets.training.tune import InstaTuner, Polisher
from supernets.training.waiting import waiting_by_load

Tell = Callable[[int], object]
JUDGED = 1000
"""Samples of validation by which it is judged, at most."""
FORWARD_SHARE = 1 / 3
"""Part of a step's time that its forward passes take."""
BATCHES = 4
"""Of training samples, from which BatchNorm takes the statistics that a network is judged with."""


class Judged(NamedTuple):
    """A sub-network by which a training is judged."""

    architecture: Architecture
    policy: QuantPolicy


FULL = Judged({}, QuantPolicy({}))


@dataclass(frozen=True)
class Judge:
    """Answers of sub-networks about the same validation samples."""

    experiment: Experiment
    data: TaskData
    networks: Sequence[Judged]

    @cached_property
    def split(self) -> Split:
        """Validation samples, drawn once, as they may lie in the order of their classes."""
        return drawn(self.data.validation, JUDGED, self.experiment.seed)

    def steps(self, batch_size: int, networks_in_step: int) -> int:
        """What judging costs, in steps of training so many networks at once."""
        batches = len(self.networks) * len(self.split) / batch_size
        return round(batches * FORWARD_SHARE / networks_in_step)

    @torch.inference_mode()
    def answers(self, network: SuperNetwork) -> Answers:
        """Of every sub-network; the network comes back whole."""
        found = [self._of(network, judged) for judged in self.networks]
        network.activate({})
        network.apply_policy({}, self.experiment.quantization)
        return found

    def _of(self, network: SuperNetwork, judged: Judged) -> Predictions:
        network.activate(judged.architecture)
        network.apply_policy(judged.policy, self.experiment.quantization)
        if any(isinstance(module, nn.BatchNorm2d) for module in network.modules()):
            few = drawn(self.data.train, BATCHES * 64, self.experiment.seed)
            recalibrate(network, self._batches(network, few, judged))
        network.eval()
        found = Predictions(self.data.task)
        for batch in self._batches(network, self.split, judged):
            outputs = network(**batch.inputs).float()
            found.add(outputs.cpu().numpy(), batch.labels.cpu().numpy())
        return found

    def _batches(self, network: SuperNetwork, split: Split, judged: Judged) -> Iterator[Batch]:
        for batch in split.batches(64, device=network.device):
            own = split.rewritten(batch, judged.architecture)
            yield replace(own, inputs=network.adapt_inputs(own.inputs))


def drawn(split: Split, samples: int, seed: int) -> Split:
    """So many samples of a split at most, always the same."""
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))
    return split.part(order[:samples])


def _trained(
    trainer: Trainer, steps: int, judge: Judge, per_look: int, tell: Tell
) -> Iterator[tuple[int, Answers]]:
    """Train for so many steps, with a schedule that ends there; see `ShortTraining`."""
    keep_freed_memory()
    trainer.total_steps = steps
    for number, look in enumerate(LOOKS, 1):
        with waiting_by_load():
            while trainer.step_number < steps * look // LOOKS[-1]:
                trainer.step()
                tell(trainer.step_number)
        yield trainer.step_number + number * per_look, judge.answers(trainer.network)


@dataclass(frozen=True)
class ShortTuning:
    """Tunes a copy of a network whose units are in order; judged by the full network and the
    sub-network in the middle of the space. length: steps of training."""

    experiment: Experiment
    data: TaskData
    network: SuperNetwork
    space: SearchSpace
    length: int

    @property
    def settings(self) -> TuneSettings:
        """As derived."""
        return self.experiment.tune

    @cached_property
    def judge(self) -> Judge:
        """By what it is judged."""
        architecture, policy = self.space.split(self.space.middle())
        used = policy if self.settings.quantization_aware else FULL.policy
        return Judge(self.experiment, self.data, [FULL, Judged(architecture, used)])

    @property
    def steps(self) -> int:
        """See `ShortTraining`."""
        return self.length + len(LOOKS) * self._per_look

    @property
    def _per_look(self) -> int:
        return self.judge.steps(self.settings.batch_size, 1 + self.settings.subnetworks)

    def before(self) -> float | None:
        """Of the network before: its classifier may be new."""
        return None

    def __call__(
        self, changed: Mapping[str, Any], tell: Tell = lambda steps: None
    ) -> Iterator[tuple[int, Answers]]:
        """See `ShortTraining`."""
        settings = self.settings.model_copy(update=dict(changed))
        seed, scheme = self.experiment.seed, self.experiment.quantization
        split = drawn(self.data.train, self.length * settings.batch_size, seed)
        network = deepcopy(self.network)
        tuner = InstaTuner(network, self.space, split, settings, seed, scheme)
        return _trained(tuner, self.length, self.judge, self._per_look, tell)


@dataclass(frozen=True)
class ShortPolish:
    """Polishes the sub-network in the middle of the space, of a tuned network.

    Of the changed settings `teacher` says whether the full network is polished first, which is
    done once; it teaches if validation then finds it better, as in a run.
    """

    experiment: Experiment
    data: TaskData
    network: SuperNetwork
    space: SearchSpace
    length: int
    _teachers: list[SuperNetwork] = field(default_factory=list)

    @property
    def settings(self) -> PolishSettings:
        """As derived."""
        assert self.experiment.polish is not None
        return self.experiment.polish

    @cached_property
    def judge(self) -> Judge:
        """By what it is judged."""
        return Judge(self.experiment, self.data, [Judged(*self.space.split(self.space.middle()))])

    @cached_property
    def feedback(self) -> ErrorFeedback | None:
        """What rounds weights of few bits, as in a run."""
        network, batches = deepcopy(self.network), calibration_batches(self.data.train)
        return ErrorFeedback.asked_by(self.experiment.quantization, network, batches)

    @property
    def steps(self) -> int:
        """See `ShortTraining`."""
        return self.length + len(LOOKS) * self._per_look

    @property
    def _per_look(self) -> int:
        return self.judge.steps(self.settings.batch_size, 1)

    def before(self) -> float:
        """The sub-network's value before it is polished."""
        (found,) = self.judge.answers(self.network)
        return found.score(self.experiment.quality)

    def __call__(
        self, changed: Mapping[str, Any], tell: Tell = lambda steps: None
    ) -> Iterator[tuple[int, Answers]]:
        """See `ShortTraining`."""
        (judged,), told = self.judge.networks, dict(changed)
        first = told.pop("teacher", self.settings.teacher is not None)
        teacher = self._teacher(tell) if first else self._untrained_teacher()
        settings = self.settings.model_copy(update=told)
        polisher = self._polisher(teacher, judged, settings)
        return _trained(polisher, self.length, self.judge, self._per_look, tell)

    def _untrained_teacher(self) -> SuperNetwork:
        """The tuned network, or the checkpoint's where nothing but its answers is learnt."""
        if not self.data.task.taught_alone:
            return self.network
        return load_supernet(self.experiment.model, self.data, self.experiment.seed).network

    def _polisher(
        self, teacher: SuperNetwork, judged: Judged, settings: PolishSettings
    ) -> Polisher:
        samples, seed = self.length * settings.batch_size, self.experiment.seed
        split = drawn(noisy(self.data, settings.token_noise), samples, seed)
        network, scheme = deepcopy(self.network), self.experiment.quantization
        network.activate(judged.architecture)
        levels = round_active(network, judged.policy, scheme, self.feedback)
        return Polisher(
            network, deepcopy(teacher), judged.architecture, judged.policy, split, settings, seed,
            scheme, levels,
        )  # fmt: skip

    def _teacher(self, tell: Tell) -> SuperNetwork:
        """The full network, polished as briefly with what was derived."""
        own = self.settings.teacher
        if own is None:
            return self.network
        if not self._teachers:
            settings = self.settings.model_copy(update=own.model_dump())
            polisher = self._polisher(self.network, FULL, settings)
            judge, metric = replace(self.judge, networks=[FULL]), self.experiment.quality
            (before,) = judge.answers(self.network)
            for _, (found,) in _trained(polisher, self.length, judge, 0, tell):
                after = found.score(metric)
            better = metric.worse_by(after, before.score(metric)) < 0
            self._teachers.append(polisher.network if better else self.network)
        return self._teachers[0]
