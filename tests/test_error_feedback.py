"""Rounding with error feedback: against its formula, brute force, and ONNX Runtime."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hardware.formats.codebook.weights import CodebookQuantizer
from hardware.formats.error_feedback import (
    DAMPING,
    FeedbackQuantizer,
    GroupQuantizer,
    missed,
    rounded,
    unit_lower,
)
from hardware.formats.format import Format
from hardware.formats.int2 import INT2
from hardware.formats.int3 import INT3
from hardware.formats.int4 import INT4
from hardware.formats.int4_weights import BlockInt4Quantizer, Int4Quantizer
from hardware.formats.int8 import INT8
from hardware.formats.registry import FORMATS
from hardware.formats.scheme import Int4Kernel, QuantScheme
from hardware.formats.weight_memo import Floats, WeightMemo, groups_of
from hardware.session import open_session, run
from hardware.target import Target
from hardware.writing.verify import verify
from nas.evaluation.candidate_builder import CandidateBuilder
from nas.evaluation.error_feedback import ErrorFeedback
from supernets.data.data import Batch
from supernets.layers.input_moments import input_moments, patches
from supernets.settings import SpaceSettings
from tests import sample_networks

FEW_BITS = pytest.mark.parametrize(
    "quantizer",
    [
        CodebookQuantizer(INT2.book, 16),
        CodebookQuantizer(INT2.book, None),
        CodebookQuantizer(INT3.book, 32, reduce_range=True),
        Int4Quantizer(16),
        Int4Quantizer(32, reduce_range=True),
        BlockInt4Quantizer(16),
    ],
    ids=["int2", "int2 rows", "int3 reduced", "int4", "int4 reduced", "matmulnbits"],
)


def weights(rows: int, inputs: int) -> Floats:
    """With a row of zeros, one of small groups, and an input that nothing depends on."""
    matrix = np.random.default_rng(0).standard_t(4, (rows, inputs)).astype(np.float32)
    matrix[0], matrix[1, : inputs // 2], matrix[:, 1] = 0, matrix[1, : inputs // 2] * 1e-3, 0
    return matrix


def moments(inputs: int, samples: int = 500) -> Floats:
    """Of inputs that depend on each other; one is always zero."""
    rng = np.random.default_rng(1)
    x = rng.standard_normal((samples, inputs)) @ rng.standard_normal((inputs, inputs))
    x[:, 3] = 0
    return (x.T @ x / samples).astype(np.float32)


def by_the_formula(matrix: Floats, h: Floats, levels: Floats, group: int) -> Floats:
    """Weight by weight, each to the nearest level; a group's largest to the end of its levels."""
    order = np.argsort(np.diag(h), kind="stable")
    factor, found = unit_lower(h[np.ix_(order, order)]), np.zeros_like(matrix)
    for row, weight in enumerate(matrix):
        missing: dict[int, float] = {}
        for place in reversed(range(len(order))):
            column = order[place]
            target = weight[column] + sum(e * factor[k, place] for k, e in missing.items())
            start, values = column // group * group, levels[row, column // group]
            part, end = np.abs(weight[start : start + group]), values[np.abs(values).argmax()]
            kept = column - start == part.argmax() and part.max() > abs(end) / 2
            value = end if kept else values[np.abs(values - target).argmin()]
            found[row, column] = value
            missing[place] = weight[column] - value
    return found


@FEW_BITS
def test_each_weight_is_rounded_with_the_errors_behind_it(quantizer: GroupQuantizer) -> None:
    matrix, h = weights(6, 40), moments(40)
    levels, (_, group) = quantizer.levels(matrix), groups_of(matrix, quantizer.group_size)
    expected = by_the_formula(matrix, h, levels, group)
    np.testing.assert_allclose(rounded(matrix, h, levels, group), expected, atol=1e-5)


def test_what_the_output_misses_is_the_sum_of_what_each_rounding_missed() -> None:
    """e H e^T = sum_j D_j (e L)_j^2, and (e L)_j is the error of rounding the j-th target."""
    h, errors = moments(24), weights(5, 24)
    damped = h + np.diag(DAMPING * np.diag(h).mean() + (np.diag(h) == 0)).astype(np.float32)
    factor = unit_lower(h)
    diagonal = np.diag(np.linalg.inv(factor) @ damped @ np.linalg.inv(factor).T)
    np.testing.assert_allclose(factor @ np.diag(diagonal) @ factor.T, damped, atol=1e-3)
    by_parts = (diagonal * np.square(errors @ factor)).sum(1)
    np.testing.assert_allclose(missed(errors, damped), by_parts, rtol=1e-4)


@FEW_BITS
@pytest.mark.parametrize("inputs", [50, 128])
def test_no_output_misses_more_than_with_nearest_values(
    quantizer: GroupQuantizer, inputs: int
) -> None:
    matrix, h = weights(24, inputs), moments(inputs)
    found = FeedbackQuantizer(quantizer, h).quantize(matrix).values
    nearest, fed = (missed(matrix - quantizer.decoded(w), h) for w in (matrix, found))
    assert (fed <= nearest).all()
    assert fed.sum() < 0.9 * nearest.sum()


@FEW_BITS
def test_rounded_weights_are_stored_as_they_are(quantizer: GroupQuantizer) -> None:
    """So that files, imitations and what is trained on need to know nothing of the feedback."""
    matrix, h = weights(64, 128)[2:], moments(128)
    _, group = groups_of(matrix, quantizer.group_size)
    found = rounded(matrix, h, quantizer.levels(matrix), group)
    same = np.isclose(quantizer.decoded(found), found, atol=1e-5).all(1)
    assert same.mean() > 0.95  # the error of those that are not is what decides of them


@FEW_BITS
def test_independent_inputs_have_no_feedback(quantizer: GroupQuantizer) -> None:
    matrix, h = weights(8, 32)[2:], np.eye(32, dtype=np.float32)
    levels, (_, group) = quantizer.levels(matrix), groups_of(matrix, quantizer.group_size)
    found = rounded(matrix, h, levels, group)
    of_each = np.repeat(levels, group, axis=1)[:, :32]
    nearest = np.take_along_axis(
        of_each, np.abs(of_each - matrix[..., None]).argmin(-1)[..., None], -1
    )[..., 0]
    ends = np.abs(matrix).reshape(len(matrix), -1, group).max(-1).repeat(group, axis=1)
    inner = np.abs(matrix) < ends
    np.testing.assert_allclose(found[inner], nearest[inner], atol=1e-6)


def test_it_lies_between_the_best_of_all_roundings_and_the_nearest() -> None:
    """Brute force over all codes of two bits."""
    matrix, h = weights(66, 6)[2:], moments(6)
    levels = CodebookQuantizer(INT2.book, None).levels(matrix)
    codes = np.stack(np.meshgrid(*[range(4)] * 6, indexing="ij"), -1).reshape(-1, 6)
    best = nearest = 0.0
    for weight, values in zip(matrix, levels, strict=True):
        errors = weight - values[0][codes]
        missing = missed(errors, h)
        best, nearest = best + missing.min(), nearest + missing[np.square(errors).sum(1).argmin()]
    fed = missed(matrix - rounded(matrix, h, levels, 6), h).sum()
    assert best <= fed < nearest


def test_moments_are_of_what_weights_are_multiplied_with() -> None:
    torch.manual_seed(0)
    convolution = nn.Conv2d(3, 4, 3, stride=2, padding=1, bias=False)
    linear = nn.Linear(4 * 16, 5, bias=False)
    network = nn.Sequential(convolution, nn.Flatten(), linear)
    x = torch.randn(40, 3, 8, 8)
    batch = Batch({"input": x}, torch.zeros(40), torch.arange(40))
    found = input_moments(network, ["0", "2"], [batch])
    columns = patches(convolution, x, convolution(x))
    product = columns @ convolution.weight.detach().flatten(1).T
    expected = convolution(x).detach().movedim(1, -1).flatten(0, -2)
    torch.testing.assert_close(product, expected, atol=1e-5, rtol=1e-5)
    outputs = network(x).detach()
    weight = linear.weight.detach().numpy()
    np.testing.assert_allclose(
        missed(weight, found["2"]), outputs.square().mean(0).numpy(), rtol=1e-4
    )
    np.testing.assert_allclose(
        missed(convolution.weight.detach().flatten(1).numpy(), found["0"]),
        expected.square().mean(0).numpy(), rtol=1e-4,
    )  # fmt: skip


def test_tokens_that_fill_up_texts_do_not_count() -> None:
    """A token's own layer and one that reads means over tokens."""

    class Pooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.each, self.mean = nn.Linear(3, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor, attention_mask: Tensor) -> Tensor:
            mean: Tensor = self.mean(self.each(x).mean(1))
            return mean

    x, mask = torch.randn(2, 5, 3), torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    network = Pooled()
    batch = Batch({"x": x, "attention_mask": mask}, torch.zeros(2), torch.arange(2))
    found = input_moments(network, ["each", "mean"], [batch])
    text = torch.cat([x[0, :3], x[1]])
    means = network.each(x).mean(1).detach()
    np.testing.assert_allclose(found["each"], text.T @ text / 8, rtol=1e-5)
    np.testing.assert_allclose(found["mean"], means.T @ means / 2, rtol=1e-5)


def test_patches_of_large_images_are_a_grid_of_them() -> None:
    layer, x = nn.Conv2d(2, 3, 3, padding=1, bias=False), torch.randn(2, 2, 40, 40)
    found = patches(layer, x, layer(x)) @ layer.weight.detach().flatten(1).T
    grid = layer(x).detach()[:, :, ::5, ::5].movedim(1, -1).flatten(0, -2)
    torch.testing.assert_close(found, grid, atol=1e-5, rtol=1e-5)


def test_formats_of_few_bits_are_rounded_so_and_no_others() -> None:
    few = {name for name, f in FORMATS.items() if f.in_groups("linear", QuantScheme()) is not None}
    assert few == {"int2", "int3", "int4"}
    blocks = QuantScheme(int4_kernel="matmulnbits")
    assert INT4.in_groups("linear", blocks) == BlockInt4Quantizer(32)
    assert INT4.in_groups("conv", blocks) == Int4Quantizer(32, blocks.reduce_range)


@pytest.fixture(scope="module")
def builder() -> CandidateBuilder:
    """Of a small ViT, with random images to take moments from."""
    network, template = sample_networks.vit()
    network.activate({})
    space = network.space(SpaceSettings(depth=(1, 3), num_heads=(2, 4), hidden_dim=(48, 96)))
    scheme = QuantScheme().with_linear("dynamic").with_int4_kernel("w4a8")
    torch.manual_seed(0)
    inputs = network.example_inputs(64)
    images = {name: torch.randn_like(tensor) for name, tensor in inputs.items()}
    calibration = [Batch(images, torch.zeros(64), torch.arange(64))]
    feedback = ErrorFeedback(network, calibration)
    return CandidateBuilder(network, space, template, scheme, calibration, feedback=feedback)


@pytest.mark.parametrize("precision", [INT2, INT3, INT4], ids=str)
@pytest.mark.parametrize("kernel", ["w4a8", "matmulnbits"])
def test_models_are_what_the_search_measures(
    builder: CandidateBuilder, precision: Format, kernel: Int4Kernel
) -> None:
    """The smallest sub-network, whose layers read the first of what the full one's do."""
    if kernel == "matmulnbits" and precision is not INT4:
        return
    fed = builder.with_int4_kernel(kernel)
    candidate = fed.uniform(fed.space.smallest(), precision)
    inputs = fed.adapted(candidate, fed.calibration[0].inputs)
    model = fed.model(candidate)
    verify(model, candidate.policy)
    session = open_session(model.SerializeToString(), Target())
    (given,) = run(session, {name: tensor.numpy() for name, tensor in inputs.items()})
    with torch.inference_mode():
        exact = fed.network(candidate)(**inputs).numpy()
        imitated = fed.imitation(candidate, None)(**inputs).numpy()
        nearest = replace(fed, feedback=None).imitation(candidate, None)(**inputs).numpy()
    misses = [float(np.square(x - exact).mean()) for x in (given, imitated, nearest)]
    assert np.abs(given - imitated).max() < 0.02 * np.abs(exact).max()
    assert misses[0] < 0.9 * misses[2]


def test_what_is_rounded_does_not_depend_on_who_came_before(builder: CandidateBuilder) -> None:
    small, large = (
        builder.uniform(genome, INT2)
        for genome in (builder.space.smallest(), builder.space.largest())
    )
    assert builder.feedback is not None
    first = builder.model(small).SerializeToString()
    builder.model(large)
    fresh = replace(
        builder,
        memo=WeightMemo(),
        feedback=ErrorFeedback(builder.supernet, builder.calibration),
    )
    assert fresh.model(large).SerializeToString() == builder.model(large).SerializeToString()
    assert fresh.model(small).SerializeToString() == first


def test_eight_bits_and_more_are_left_alone(builder: CandidateBuilder) -> None:
    candidate = builder.uniform(builder.space.largest(), INT8)
    assert builder.feedback is not None
    assert not builder.feedback.quantizers(candidate.policy, builder.scheme)
    plain = replace(builder, feedback=None)
    assert builder.model(candidate) == plain.model(candidate)


def test_a_copy_to_train_on_begins_with_the_rounded_weights(builder: CandidateBuilder) -> None:
    """So that nearest values, which training imitates, are those that were measured."""
    candidate = builder.uniform(builder.space.smallest(), INT2)
    copy = deepcopy(builder.supernet)
    builder.round_copy(copy, candidate)
    plain = replace(builder, supernet=copy, feedback=None, memo=WeightMemo())
    assert plain.model(candidate) == builder.model(candidate)
