"""What is timed before a run: candidates as they will be searched, and no longer than tells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from hardware.formats.scheme import QuantScheme
from hardware.formats.weight_memo import Floats, Quantizer, WeightMemo, WeightT
from nas.evaluation.candidate import Candidate
from nas.evaluation.candidate_builder import CandidateBuilder
from nas.evaluation.error_feedback import ErrorFeedback
from nas.recipe import timing
from nas.recipe.timed_candidates import part_of, rounding_s, typical, unrounded, weights_to_round
from supernets.data.builtin import digits
from supernets.data.data import TaskData
from supernets.data.image_preprocessor import ImagePreprocessor
from supernets.data.images import ImageSplit
from supernets.load import supernet
from supernets.settings import DataSettings, SpaceSettings, TrainSettings, TuneSettings
from supernets.training.train import Trainer
from supernets.training.tune import InstaTuner
from tests import sample_networks
from tests.sample_supernets import batch


class Seen(WeightMemo):
    """A memory that tells how many weights it holds."""

    def __init__(self) -> None:
        super().__init__()
        self.weights: dict[object, int] = {}

    def recall(self, layer: str, matrix: Floats, quantizer: Quantizer[WeightT]) -> WeightT:
        self.weights[layer, matrix.shape[1], quantizer] = matrix.size
        return super().recall(layer, matrix, quantizer)


@pytest.fixture(scope="module")
def builder() -> CandidateBuilder:
    network, template = sample_networks.vit()
    network.activate({})
    formats = ("int2", "int4", "int8", "fp32")
    space = network.space(
        SpaceSettings(num_heads=(2, 4), hidden_dim=(48, 96), precision={"*": formats})
    )
    batches = [batch(network)]
    feedback = ErrorFeedback(network, batches, memo=Seen())
    return CandidateBuilder(network, space, template, QuantScheme(), batches, feedback=feedback)


def test_layers_are_rounded_once_for_their_inputs_and_format(builder: CandidateBuilder) -> None:
    """After each candidate as many weights as the memory of what was rounded holds."""
    assert builder.feedback is not None
    memo = builder.feedback.memo
    assert isinstance(memo, Seen)
    space, found = builder.space, []
    genomes = space.sample(12, np.random.default_rng(0))
    candidates = [Candidate.from_genome(space, genome) for genome in genomes]
    for candidate in candidates:
        builder.stored(candidate)
        found.append(sum(memo.weights.values()))
    assert weights_to_round(builder, genomes).tolist() == found
    assert 0 < found[0] < found[-1]
    taken = rounding_s(unrounded(builder), candidates[0], genomes)
    weight_s = (taken[-1] - taken[0]) / (found[-1] - found[0])
    assert weight_s > 0
    assert np.diff(taken) == pytest.approx(np.diff(found) * weight_s)
    assert sum(memo.weights.values()) == found[-1]


def test_timed_candidates_are_of_all_sizes(builder: CandidateBuilder) -> None:
    found = typical(builder, seed=0)
    macs = [sum(builder.macs(candidate).values()) for candidate in found]
    assert macs[1] < macs[0] < macs[2]
    assert typical(builder, seed=0) == found


@pytest.fixture(scope="module")
def data() -> TaskData:
    preprocessor = ImagePreprocessor.plain(sample_networks.VIT.image_size, (0.3,), (0.4,))
    return digits.load(preprocessor, DataSettings(name="digits", augment=False))


def test_samples_are_taken_from_all_over_a_split(data: TaskData) -> None:
    """Splits may be in the order of their classes."""
    split = data.validation
    found = part_of(split, 3).batch(torch.arange(3)).inputs["pixel_values"]
    rows = torch.tensor([0, (len(split) - 1) // 2, len(split) - 1])
    assert torch.equal(found, split.batch(rows).inputs["pixel_values"])
    assert len(part_of(split, 10**6)) == len(split)


@pytest.mark.parametrize(
    ("seconds", "budget_s", "steps"),
    [(0.0, None, 1), (1e9, 1e-9, 1), (1e9, 1e12, 7), (1e9, None, 7)],
)
def test_slow_steps_are_timed_less_often(
    data: TaskData,
    monkeypatch: pytest.MonkeyPatch,
    seconds: float,
    budget_s: float | None,
    steps: int,
) -> None:
    """One where it takes longer than the time there is; another where the first asks a teacher."""
    monkeypatch.setattr(timing, "TIMED_S", seconds)
    network = supernet(sample_networks.VIT, 10)
    split = data.train.part(torch.arange(64))
    trainer = Trainer(network, split, TrainSettings(batch_size=8, epochs=2), 0)
    assert timing._timed(trainer, budget_s).step_s > 0
    assert trainer.step_number == steps
    settings = TuneSettings(batch_size=8, epochs=2, teacher=True)
    tuner = InstaTuner(network, network.space(SpaceSettings()), split, settings, 0)
    timing._timed(tuner, budget_s)
    assert tuner.step_number == max(2, steps)


def test_a_teacher_is_asked_about_part_of_the_samples_and_counted_for_all(
    data: TaskData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that counts batches it was asked about."""
    settings, asked = TuneSettings(batch_size=8, epochs=2, teacher=True), list[int]()

    def counted(call: Callable[[], object]) -> tuple[object, float]:
        before = len(asked)
        return call(), float(len(asked) - before)

    monkeypatch.setattr(timing, "timed", counted)
    assert isinstance(data.train, ImageSplit)
    few = timing._samples_to_time(replace(data.train, augmentation=None), settings)
    batches = 1 + timing.TIMED_STEPS
    assert len(few) == 8 * batches < len(data.train)
    network = supernet(sample_networks.VIT, 10)
    tuner = InstaTuner(network, network.space(SpaceSettings()), few, settings, 0)
    assert tuner.teacher is not None
    tuner.teacher.head.register_forward_pre_hook(lambda *_: asked.append(1))
    assert timing._timed(tuner, None, 10.0) == timing.Training(10.0 * batches, 0.0)
