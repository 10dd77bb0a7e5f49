"""Few-bit weights in training: rounded to the levels they had before it."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import Tensor

from hardware.formats.codebook.weights import CodebookQuantizer
from hardware.formats.error_feedback import GroupQuantizer, rounded
from hardware.formats.format import Format
from hardware.formats.int2 import INT2
from hardware.formats.int3 import INT3
from hardware.formats.int4 import INT4
from hardware.formats.scheme import QuantScheme
from hardware.formats.weight_memo import groups_of
from nas.evaluation.candidate_builder import CandidateBuilder, template_of
from nas.evaluation.error_feedback import ErrorFeedback
from supernets.families.texts.transformer import TextSuperNetwork
from supernets.layers.elastic import ElasticEmbedding
from supernets.layers.twins.fixed_levels import Even, FixedLevels, Uneven
from supernets.load import load_data, load_supernet
from supernets.model_settings import ModelSettings
from supernets.settings import DataSettings, PolishSettings, SpaceSettings
from supernets.training.train import Trainer
from supernets.training.tune import Polisher
from tests import sample_networks
from tests.test_error_feedback import FEW_BITS, moments, weights


def fixed(quantizer: GroupQuantizer, inputs: int = 40) -> tuple[Tensor, FixedLevels]:
    """Rounded weights, rows of zeros and of small groups left out, and their levels."""
    matrix, h = weights(9, inputs)[2:], moments(inputs)
    _, group = groups_of(matrix, quantizer.group_size)
    values = rounded(matrix, h, quantizer.levels(matrix), group)
    return torch.from_numpy(values), FixedLevels.of(values, quantizer)


@FEW_BITS
def test_rounded_weights_stay_as_they_are(quantizer: GroupQuantizer) -> None:
    matrix, levels = fixed(quantizer)
    torch.testing.assert_close(levels(matrix), matrix, atol=1e-5, rtol=1e-5)


@FEW_BITS
def test_moved_weights_go_to_the_nearest_level_but_the_largest_of_each_group(
    quantizer: GroupQuantizer,
) -> None:
    """By the definition, weight by weight; formats find every step again."""
    matrix, levels = fixed(quantizer)
    before = levels(matrix)
    values = quantizer.levels(matrix.numpy())
    torch.manual_seed(0)
    moved = matrix + 0.1 * torch.randn_like(matrix)
    found = levels(moved)
    width = min(quantizer.group_size or matrix.shape[1], matrix.shape[1])
    for row, (first, now, at) in enumerate(zip(matrix, moved, found, strict=True)):
        top = int(first.abs().argmax())
        grown = now[top] / first[top]
        for group in range(values.shape[1]):
            part = slice(group * width, (group + 1) * width)
            own = torch.from_numpy(values[row, group]) * grown
            expected = own[(now[part, None] - own).abs().argmin(1)]
            largest = int(first[part].abs().argmax())
            expected[largest] = before[row, part][largest] * grown
            torch.testing.assert_close(at[part], expected, atol=1e-5, rtol=1e-5)
    stored = torch.from_numpy(quantizer.decoded(found.numpy()))
    torch.testing.assert_close(stored, found, atol=1e-5, rtol=1e-5)


def test_even_levels_are_found_by_division_as_by_comparison() -> None:
    """Of either sign, as under a negative largest weight."""
    step = torch.tensor([0.3, 0.01, 2.0]).view(3, 1, 1)
    levels = torch.stack([torch.arange(-8, 8), torch.arange(-7, 9), torch.arange(-8, 8)]) * 1.0
    levels = levels.view(3, 1, 16) * step
    even, grouped = Even.of(levels), 5 * step * torch.randn(3, 1, 50)
    assert even is not None
    torch.testing.assert_close(even.nearest(grouped), Uneven.of(levels).nearest(grouped))
    assert Even.of(levels.square().sort(-1).values) is None


def test_uneven_levels_are_the_nearest() -> None:
    levels = torch.randn(4, 3, 8).sort(-1).values
    grouped = torch.randn(4, 3, 20)
    nearest = (grouped[..., None] - levels[:, :, None]).abs().argmin(-1)
    assert torch.equal(Uneven.of(levels).nearest(grouped), levels.gather(-1, nearest))


def test_gradients_pass_rounding_unchanged() -> None:
    matrix, levels = fixed(CodebookQuantizer(INT2.book, 16))
    weight = torch.randn_like(matrix)
    (given,) = torch.autograd.grad((levels(matrix.requires_grad_()) * weight).sum(), matrix)
    assert torch.equal(given, weight)


@FEW_BITS
def test_rows_of_tables_are_rounded_alone(quantizer: GroupQuantizer) -> None:
    matrix, levels = fixed(quantizer)
    numbers = torch.tensor([3, 0, 3, 5])
    moved = 1.1 * matrix - 0.01
    assert torch.equal(levels.of_rows(numbers)(moved[numbers]), levels(moved)[numbers])


def test_tables_keep_their_levels_too() -> None:
    """As do all layers of few bits where rounding has no feedback."""
    network = TextSuperNetwork(sample_networks.BERT, num_labels=3)
    space, scheme = network.space(SpaceSettings()), QuantScheme()
    builder = CandidateBuilder(network, space, sample_networks.bert()[1], scheme, [])
    candidate = builder.uniform(space.largest(), INT3)
    levels = builder.round_copy(network, candidate)
    assert set(levels) == set(candidate.policy)
    table = network.quantizable("embeddings.word")
    assert isinstance(table, ElasticEmbedding)
    ids = torch.randint(len(table.weight), (3, 7))
    network.levels = levels
    network.apply_policy(candidate.policy, scheme)
    given = table(ids)
    network.levels = {}
    network.apply_policy(candidate.policy, scheme)
    nearest = table(ids)
    torch.testing.assert_close(given, levels["embeddings.word"](table.weight)[ids])
    assert not torch.equal(given, nearest)


RESNET = ModelSettings.from_scratch(sample_networks.RESNET)
DATA = load_data(DataSettings(name="digits", max_train=96), RESNET)
SPACE = SpaceSettings(inner_width=(0.5, 1.0))


@pytest.fixture(scope="module")
def builder() -> CandidateBuilder:
    """Of a small ResNet that has seen the digits a few times."""
    network = load_supernet(RESNET, DATA, seed=0).network
    Trainer(network, DATA.train, PolishSettings(batch_size=32, epochs=2), 0).run()
    space = network.space(SPACE)
    template = template_of(network, space)
    scheme = QuantScheme().with_linear("dynamic").with_int4_kernel("w4a8")
    calibration = [next(DATA.train.batches(96))]
    feedback = ErrorFeedback(network, calibration)
    return CandidateBuilder(network, space, template, scheme, calibration, feedback=feedback)


def polisher(builder: CandidateBuilder, precision: Format) -> Polisher:
    """Of the smallest sub-network."""
    candidate = builder.uniform(builder.space.smallest(), precision)
    network = deepcopy(builder.supernet)
    levels = builder.round_copy(network, candidate)
    assert set(levels) == set(candidate.policy)
    settings = PolishSettings(batch_size=32, epochs=2, learning_rate=3e-3)
    return Polisher(
        network, deepcopy(builder.supernet), dict(candidate.architecture), candidate.policy,
        DATA.train, settings, 0, builder.scheme, levels,
    )  # fmt: skip


@torch.no_grad()
def answers(polish: Polisher) -> Tensor:
    """Of the sub-network under its policy."""
    network = polish.network.eval()
    network.activate(polish.architecture)
    network.apply_policy(polish.policy, polish.scheme)
    logits: Tensor = network(**next(DATA.train.batches(96)).inputs)
    return logits


@pytest.mark.parametrize("precision", [INT2, INT3, INT4], ids=str)
def test_what_was_trained_is_what_is_stored(builder: CandidateBuilder, precision: Format) -> None:
    """Formats find the levels of the last step in the weights."""
    polish, last = polisher(builder, precision), []
    before = answers(polish)
    polish.run(checkpoint=lambda _: last.append(answers(polish)))
    assert not polish.network.levels
    # A last digit of a weight may turn an activation over to its next step.
    torch.testing.assert_close(answers(polish), last[-1], atol=3e-3, rtol=0)
    assert (last[-1] - before).abs().max() > 0.03


def test_resuming_ends_in_the_same_network(builder: CandidateBuilder) -> None:
    whole, resumed = polisher(builder, INT2), polisher(builder, INT2)
    states: list[dict[str, Tensor]] = []
    whole.run(checkpoint=lambda t: states.append({k: v.clone() for k, v in t.state().items()}))
    resumed.restore(states[1])
    resumed.run()
    for name, tensor in whole.network.state_dict().items():
        assert torch.equal(tensor, resumed.network.state_dict()[name]), name
