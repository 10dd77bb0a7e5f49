"""Training from a teacher's answers: a whole super-network by InstaTune, or one sub-network."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from hardware.precision import Precision, QuantScheme
from supernets.base import Architecture, SuperNetwork, split_values
from supernets.data import Batch, Split
from supernets.ranks import Ranks
from supernets.settings import DistillSettings, PolishSettings, TuneSettings
from supernets.space import SearchSpace
from supernets.train import Trainer, lay_out


def distillation(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Kullback-Leibler divergence of the student from the teacher, times temperature squared."""
    divergence = F.kl_div(
        F.log_softmax(student / temperature, dim=-1),
        F.log_softmax(teacher / temperature, dim=-1),
        reduction="batchmean",
        log_target=True,
    )
    return divergence * temperature**2


def feature_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """One minus the cosine between features `(B, width)`; a narrow student's to a wide one's first.

    Sanh et al. 2019, "DistilBERT", section 3.
    """
    return 1 - F.cosine_similarity(student, teacher[:, : student.shape[1]]).mean()


@dataclass(frozen=True)
class Answers:
    """Logits `(B, classes)` of a batch, and the features `(B, width)` they are computed from."""

    logits: Tensor
    features: Tensor


class Distiller(Trainer):
    """Trains on the labels and on a teacher's answers."""

    settings: DistillSettings
    scheme: QuantScheme
    teacher: SuperNetwork | None = None
    _known: Answers | None = None

    def freeze_teacher(self, network: SuperNetwork) -> None:
        """Let a full network teach that nothing else trains."""
        network.activate({})
        self.teacher = network.eval().requires_grad_(False).to(self.network.device)
        lay_out(self.teacher, torch.channels_last)

    def _answer(self, network: SuperNetwork, inputs: Mapping[str, Tensor]) -> Answers:
        with self.autocast():
            features = network.features(**inputs)
            logits = network.head(features)
        return Answers(logits.float(), features.float())

    @torch.no_grad()
    def _teach(self, batch: Batch) -> Answers | None:
        """What the teacher answers; about samples that never change it is asked once."""
        if self.teacher is None:
            return None
        if self.split.augmented:
            return self._answer(self.teacher, batch.inputs)
        if self._known is None:
            self._known = self._answer_all(self.teacher)
        return Answers(self._known.logits[batch.rows], self._known.features[batch.rows])

    def _answer_all(self, teacher: SuperNetwork) -> Answers:
        """Answers about the whole split, shared out among the processes; features if needed."""
        device, size = self.network.device, len(self.split)
        width = teacher.head.in_features if self.settings.feature_weight else 0
        logits = torch.zeros(size, teacher.head.out_features, device=device)
        features = torch.zeros(size, width, device=device)
        shuffled = torch.Generator().manual_seed(0)  # batches then hold texts of like length
        batches = self.split.batches(self.settings.batch_size, generator=shuffled)
        for batch in islice(batches, self.ranks.rank, None, self.ranks.count):
            rows, found = batch.rows.to(device), self._answer(teacher, batch.to(device).inputs)
            logits[rows], features[rows] = found.logits, found.features[:, :width]
        self.ranks.add_up([logits, features])
        return Answers(logits, features)

    def _use_full_network(self) -> None:
        self.network.activate({})
        self.network.apply_policy({}, self.scheme)

    def _backward(
        self, given: Answers, labels: Tensor, target: Answers | None, share: float
    ) -> Tensor:
        weight = self.settings.hard_label_weight
        loss = weight * self.cross_entropy(given.logits, labels)
        if target is not None:
            soft = distillation(given.logits, target.logits, self.settings.temperature)
            loss = loss + (1 - weight) * soft
            if self.settings.feature_weight:
                distance = feature_distance(given.features, target.features)
                loss = loss + self.settings.feature_weight * distance
        loss = loss * share
        loss.backward()
        return loss.detach()


class Polisher(Distiller):
    """Trains one sub-network under its precision policy; another network, full, teaches."""

    settings: PolishSettings

    def __init__(
        self,
        network: SuperNetwork,
        teacher: SuperNetwork,
        architecture: Architecture,
        policy: Mapping[str, Precision],
        split: Split,
        settings: PolishSettings,
        seed: int,
        scheme: QuantScheme,
    ) -> None:
        super().__init__(network, split, settings, seed)
        self.architecture, self.policy, self.scheme = architecture, policy, scheme
        self.freeze_teacher(teacher)

    def backward(self, batch: Batch, share: float = 1.0) -> list[Tensor]:
        """Gradients of the sub-network."""
        teacher = self._teach(batch)
        self.network.activate(self.architecture)
        self.network.apply_policy(self.policy, self.scheme)
        given = self._answer(self.network, self.network.adapt_inputs(batch.inputs))
        loss = self._backward(given, batch.labels, teacher, share)
        self._use_full_network()
        return [loss]


class InstaTuner(Distiller):
    """Trains the full network and sampled sub-networks together.

    Sridhar et al. 2023, "InstaTune", equation 1: cross-entropy of all, and distillation of the
    sub-networks from the full network, or of all from a frozen teacher.
    """

    settings: TuneSettings

    def __init__(
        self,
        network: SuperNetwork,
        space: SearchSpace,
        split: Split,
        settings: TuneSettings,
        seed: int,
        scheme: QuantScheme | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        super().__init__(network, split, settings, seed, ranks)
        self.space, self.scheme = space, scheme or QuantScheme()
        if settings.teacher:
            self.freeze_teacher(deepcopy(network))

    @property
    def loss_names(self) -> tuple[str, ...]:
        """The full network's, then those of the sub-networks."""
        return ("loss", *(f"subnetwork_{number}" for number in range(self.settings.subnetworks)))

    def backward(self, batch: Batch, share: float = 1.0) -> list[Tensor]:
        """Gradients of the full network, then of each sampled sub-network."""
        teacher = self._teach(batch)
        self._use_full_network()
        full = self._answer(self.network, batch.inputs)
        losses = [self._backward(full, batch.labels, teacher, share)]
        target = teacher or Answers(full.logits.detach(), full.features.detach())
        for number in range(self.settings.subnetworks):
            self._draw(number)
            given = self._answer(self.network, self.network.adapt_inputs(batch.inputs))
            losses.append(self._backward(given, batch.labels, target, share))
        self._use_full_network()
        return losses

    def _draw(self, number: int) -> None:
        """Activate a random sub-network, decided by seed, step and number alone."""
        rng = np.random.default_rng((self.seed, self.step_number, number))
        architecture, policy = split_values(self.space.decode(self.space.sample(1, rng)[0]))
        self.network.activate(architecture)
        if self.settings.quantization_aware:
            self.network.apply_policy(policy, self.scheme)
