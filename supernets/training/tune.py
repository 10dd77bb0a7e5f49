"""Training from a teacher's answers: a whole super-network by InstaTune, or one sub-network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from functools import cached_property
from itertools import islice

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hardware.formats.format import Format
from hardware.formats.scheme import QuantScheme
from supernets.data.data import Batch, Split
from supernets.data.text import TextSplit
from supernets.families.super_network import Output, SuperNetwork
from supernets.layers.elastic import ElasticConv2d, ElasticLinear
from supernets.layers.twins.fixed_levels import FixedLevels
from supernets.settings import DistillSettings, PolishSettings, TuneSettings
from supernets.space.space import VOCABULARY, Architecture, SearchSpace
from supernets.training.answers import Answers, KnownAnswers, memory_of, without_padding
from supernets.training.distributed import Ranks
from supernets.training.train import Trainer, lay_out
from supernets.training.trained_parts import ActiveParts

LEAST_VARIANCE = 0.1
"""A teacher's feature counts as if it varied this part of what features do on average: where one
is all but constant (behind a ReLU, say) a small error is many times its own variance."""


def feature_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """One minus the cosine between features `(B, width)`; a narrow student's to a wide one's first.

    Sanh et al. 2019, "DistilBERT", section 3.
    """
    return 1 - F.cosine_similarity(student, teacher[:, : student.shape[1]]).mean()


def unexplained(student: Tensor, teacher: Tensor) -> Tensor:
    """Part of the teacher's variance that the student misses, one minus R squared.

    Both `(n, width)`, of a wider teacher the first features; the mean over features, so that those
    of large scale count no more than others, nor those that hardly vary.
    """
    teacher = teacher[:, : student.shape[1]]
    missed, deviation = (student - teacher).square().mean(0), teacher.std(0, correction=0)
    least = LEAST_VARIANCE * deviation.mean().square().clamp_min(torch.finfo(teacher.dtype).tiny)
    return (missed / deviation.square().clamp_min(least)).mean()


@contextmanager
def outputs_of(blocks: Sequence[nn.Module]) -> Iterator[list[Output]]:
    """Collect what these blocks put out while the body runs, in the order they do."""
    found: list[Output] = []
    hooks = [block.register_forward_hook(lambda *call: found.append(call[-1])) for block in blocks]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def _floats(output: Output) -> Output:
    return output.float() if isinstance(output, Tensor) else tuple(x.float() for x in output)


class Distiller(Trainer):
    """Trains on the labels and on a teacher's answers."""

    settings: DistillSettings
    scheme: QuantScheme
    teacher: SuperNetwork | None = None
    kept_share = 1 / 8
    """Part of the memory that outputs of the teacher's blocks may take."""
    compared: Sequence[nn.Module] = ()
    """Blocks of the teacher whose outputs are taught."""
    whole: Split | None = None
    """The split in the teacher's own pieces, where it is trained on in fewer."""
    _known: KnownAnswers | None = None

    def freeze_teacher(self, network: SuperNetwork) -> None:
        """Let a full network teach that nothing else trains."""
        network.activate({})
        self.teacher = network.eval().requires_grad_(False).to(self.network.device)
        lay_out(self.teacher, torch.channels_last)
        if self.settings.precision == "bf16":  # as each product would convert them anew
            for layer in self.teacher.modules():
                if isinstance(layer, (ElasticLinear, ElasticConv2d)):
                    layer.to(torch.bfloat16)

    def _answer(
        self,
        network: SuperNetwork,
        inputs: Mapping[str, Tensor],
        blocks: Sequence[nn.Module] = (),
    ) -> Answers:
        with self.autocast(), outputs_of(blocks) as outputs:
            features = network.features(**inputs)
            logits = network.head(features)
        return Answers(logits.float(), features.float(), outputs)

    @torch.no_grad()
    def _teach(self, batch: Batch) -> Answers | None:
        """What the teacher answers; about samples that never change it is asked once.

        Of texts with noise, too: it reads what they were before. Not where outputs of its blocks
        are compared that take too much memory, all together.
        """
        if self.teacher is None:
            return None
        self.begin()
        if self._known is None:
            return self._ask(self.teacher, batch)
        logits, features = self._known.logits[batch.rows], self._known.features[batch.rows]
        if self._keeps_outputs:
            return Answers(logits, features, self._known.outputs_of(batch.rows))
        return Answers(logits, features, self._ask(self.teacher, batch).outputs)

    @torch.no_grad()
    def begin(self) -> None:
        """Ask the teacher about all samples, if their answers are kept."""
        anew = self.split.without_noise.augmented or not self.task.once_per_sample
        kept = not anew and (self.whole is not None or self._keeps_outputs)
        if kept and self.teacher is not None and self._known is None:
            self._known = self._ask_all(self.teacher)

    def _ask(self, teacher: SuperNetwork, batch: Batch) -> Answers:
        """What it answers about the samples of a batch, without their noise."""
        asked = self.split.without_noise
        if asked is not self.split:
            batch = asked.batch(batch.rows.cpu(), device=batch.rows.device)
        return self._answer(teacher, batch.inputs, self.compared)

    @cached_property
    def _keeps_outputs(self) -> bool:
        """Whether there is memory for what blocks put out for all samples, if that is compared."""
        split = self.split
        if not (self.compared and isinstance(split, TextSplit)):
            return not self.compared
        width = self.network.head.in_features  # of a text's tokens in every block, too
        needed = 4 * int(split.lengths.sum()) * width * len(self.compared)
        return needed <= self.kept_share * memory_of(self.network.device)

    def _ask_all(self, teacher: SuperNetwork) -> KnownAnswers:
        """Answers about all samples, and outputs of blocks if they are kept."""
        compared = self.compared if self._keeps_outputs else ()
        if self.whole is None:
            return self._answer_all(teacher, self.split.without_noise, compared)
        known = self._answer_all(teacher, self.whole.without_noise)
        if not compared:
            return known
        outputs = self._answer_all(teacher, self.split.without_noise, compared).outputs
        return replace(known, outputs=outputs)

    def _answer_all(
        self, teacher: SuperNetwork, split: Split, blocks: Sequence[nn.Module] = ()
    ) -> KnownAnswers:
        """Answers about a whole split, shared out among the processes; features if needed."""
        device, size = self.network.device, len(split)
        width = teacher.head.in_features if self.settings.feature_weight else 0
        logits = torch.zeros(size, teacher.head.out_features, device=device)
        features = torch.zeros(size, width, device=device)
        outputs = dict[int, Tensor]()
        shuffled = torch.Generator().manual_seed(0)  # batches then hold texts of like length
        batches = split.batches(self.settings.batch_size, generator=shuffled, device=device)
        for batch in islice(batches, self.ranks.rank, None, self.ranks.count):
            found = self._answer(teacher, batch.inputs, blocks)
            logits[batch.rows], features[batch.rows] = found.logits, found.features[:, :width]
            if found.outputs:
                outputs |= without_padding(found.outputs, batch)
        self.ranks.add_up([logits, features])
        return KnownAnswers(logits, features, outputs)

    def _use_full_network(self) -> None:
        self.network.activate({})
        self.network.apply_policy({}, self.scheme)

    def _backward(
        self,
        given: Answers,
        labels: Tensor,
        target: Answers | None,
        share: float,
        further: Tensor | float = 0.0,
        taught: Tensor | None = None,
    ) -> Tensor:
        """Add the gradients of an answer to the loss; taught: the targets of what the teacher was
        asked, where the same texts are in other pieces."""
        rows = self.task.rows
        weight = 0.0 if self.task.taught_alone else self.settings.hard_label_weight
        loss = weight * self.hard_loss(given.logits, labels)
        if target is not None:
            here, there = self.task.matched(labels, labels if taught is None else taught)
            own, known = rows(given.logits, here), rows(target.logits, there)
            soft = self.task.distillation(own, known, self.settings.temperature)
            loss = loss + (1 - weight) * soft
            if self.settings.feature_weight:
                own, known = rows(given.features, here), rows(target.features, there)
                loss = loss + self.settings.feature_weight * feature_distance(own, known)
        loss = (loss + further) * share
        loss.backward()
        return loss.detach()


class Polisher(Distiller):
    """Trains one sub-network under its precision policy; another network, full, teaches.

    levels: of layers whose weights are rounded already, those that they keep.
    """

    settings: PolishSettings

    def __init__(
        self,
        network: SuperNetwork,
        teacher: SuperNetwork,
        architecture: Architecture,
        policy: Mapping[str, Format],
        split: Split,
        settings: PolishSettings,
        seed: int,
        scheme: QuantScheme,
        levels: Mapping[str, FixedLevels] = {},
    ) -> None:
        # Images are changed at random in full size, and then shrunk.
        pieces = {gene: size for gene, size in architecture.items() if gene == VOCABULARY}
        network.activate(architecture)
        self._parts = ActiveParts(network)
        network.activate({})
        super().__init__(network, split.seen_by(pieces), settings, seed)
        self.whole = None if self.split is split else split
        self.architecture, self.policy, self.scheme = architecture, policy, scheme
        self._of_batches = {g: size for g, size in architecture.items() if g not in pieces}
        network.levels = {name: held.to(network.device) for name, held in levels.items()}
        self.freeze_teacher(teacher)
        self.blocks: Sequence[nn.Module] = ()
        if settings.block_weight:
            self.blocks, self.compared = self._compare(teacher)

    def _compare(self, teacher: SuperNetwork) -> tuple[list[nn.Module], list[nn.Module]]:
        """Each block of the sub-network but the last, and the teacher's before its next one.

        So what follows a block that was left out is given what it was before.
        """
        whole = list(self.network.path())
        self.network.activate(self.architecture)
        kept = list(self.network.path())
        self.network.activate({})
        taught = list(teacher.path())
        return kept[:-1], [taught[whole.index(block) - 1] for block in kept[1:]]

    def backward(self, batch: Batch, share: float = 1.0) -> list[Tensor]:
        """Gradients of the sub-network."""
        teacher = self._teach(batch)
        self.network.activate(self.architecture)
        self.network.apply_policy(self.policy, self.scheme)
        own = self.split.rewritten(batch, self._of_batches)
        inputs = self.network.adapt_inputs(own.inputs)
        given = self._answer(self.network, inputs, self.blocks)
        further = self._distance(given, teacher, inputs) if teacher and self.blocks else 0.0
        loss = self._backward(given, batch.labels, teacher, share, further)
        self._use_full_network()
        return [loss]

    @torch.no_grad()
    def finish(self) -> None:
        """Leave weights as they are rounded, for formats to find them so."""
        self.network.activate(self.architecture)
        for name, levels in self.network.levels.items():
            weight, _ = self.network.quantizable(name).active_parameters()
            weight.copy_(levels(weight.flatten(1)).view_as(weight))
        self.network.levels = {}
        self._parts.put_back()

    def _distance(self, given: Answers, teacher: Answers, inputs: Mapping[str, Tensor]) -> Tensor:
        """Weighted mean of what the blocks leave unexplained."""
        pairs = zip(given.outputs, teacher.outputs, strict=True)
        aligned = (self.network.aligned(_floats(a), _floats(b), inputs) for a, b in pairs)
        parts = [unexplained(own, full) for own, full in aligned]
        return self.settings.block_weight * torch.stack(parts).mean()


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
        if settings.teacher or self.task.taught_alone:
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
            own = self.split.rewritten(batch, self._draw(number))
            given = self._answer(self.network, self.network.adapt_inputs(own.inputs))
            losses.append(self._backward(given, own.labels, target, share, taught=batch.labels))
        self._use_full_network()
        return losses

    def _draw(self, number: int) -> Architecture:
        """Activate a random sub-network, decided by seed, step and number alone."""
        rng = np.random.default_rng((self.seed, self.step_number, number))
        architecture, policy = self.space.split(self.space.sample(1, rng)[0])
        self.network.activate(architecture)
        if self.settings.quantization_aware:
            self.network.apply_policy(policy, self.scheme)
        return architecture
