from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware.formats.int4_weights import (
    INT4_MAX,
    INT4_MIN,
    MULTIPLIER_MAX,
    SHRINKS,
    Int4Quantizer,
    pack,
    unpacked,
)
from hardware.formats.int8 import Int8Quantizer
from hardware.formats.weight_memo import first_rows


def weights(rows: int, inputs: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_t(4, (rows, inputs)).astype(np.float32)


def test_int8_is_the_nearest_of_255_symmetric_levels() -> None:
    weight = weights(7, 33)
    values, scale = Int8Quantizer().quantize(weight)
    levels = np.arange(-127, 128, dtype=np.float32)
    for row, row_values, row_scale in zip(weight, values, scale, strict=True):
        nearest = np.abs(row[:, None] - levels * row_scale).argmin(axis=1) - 127
        assert np.array_equal(row_values, nearest)
    assert np.array_equal(np.abs(values).max(axis=1), np.full(7, 127))


def test_reduced_range_cannot_overflow_sixteen_bits() -> None:
    """Two products of UINT8 and a weight, as AVX2 adds them."""
    weight = weights(20, 64)
    for integers in (
        Int8Quantizer(True).quantize(weight).values,
        Int4Quantizer(16, True).quantize(weight).integers,
    ):
        pairs = 255 * np.abs(integers.astype(int)).reshape(20, -1, 2).sum(-1)
        assert pairs.max() <= 2**15 - 1


def test_int4_multiplier_has_the_least_squared_error_of_those_tried() -> None:
    weight = weights(5, 64)
    quantized = Int4Quantizer(16).quantize(weight)
    for row, group in itertools.product(range(5), range(4)):
        part = weight[row, group * 16 : (group + 1) * 16] / quantized.scale[row]
        ideal = part[np.abs(part).argmax()] / INT4_MIN
        errors = []
        for shrink in SHRINKS:
            m = np.clip(np.rint(ideal * np.float32(shrink)), -MULTIPLIER_MAX, MULTIPLIER_MAX) or 1
            errors.append(
                np.square(part - m * np.clip(np.rint(part / m), INT4_MIN, INT4_MAX)).sum()
            )
        chosen = quantized.integers[row, group * 16 : (group + 1) * 16].astype(np.float32)
        assert np.square(part - chosen).sum() == pytest.approx(min(errors), rel=1e-5)


def test_int4_error_is_no_larger_than_onnxruntimes_block_quantizer() -> None:
    weight = weights(96, 256)
    groups = weight.reshape(96, 8, 32)
    peak = np.take_along_axis(groups, np.abs(groups).argmax(-1)[..., None], -1)
    reference = np.clip(np.rint(groups / (peak / -8)), -8, 7) * (peak / -8)
    ours = Int4Quantizer(32).quantize(weight)
    decoded = ours.integers * ours.scale[:, None]
    assert np.square(weight - decoded).sum() <= np.square(groups - reference).sum()


@given(
    rows=st.integers(1, 9),
    inputs=st.integers(1, 70),
    group=st.sampled_from([16, 32, 64, None]),
    seed=st.integers(0, 99),
)
@settings(max_examples=40, deadline=None)
def test_int4_rows_are_independent_padded_with_zeros_and_inside_int8(
    rows: int, inputs: int, group: int | None, seed: int
) -> None:
    weight = weights(rows, inputs, seed)
    weight[0] = 0
    whole = Int4Quantizer(group).quantize(weight)
    part = Int4Quantizer(group).quantize(weight[: rows // 2 + 1])
    for kept, alone in zip(first_rows(whole, rows // 2 + 1), part, strict=True):
        np.testing.assert_array_equal(kept, alone)
    assert not whole.integers[:, inputs:].any()
    assert np.abs(whole.integers.astype(int)).max() <= 8 * MULTIPLIER_MAX
    error = np.abs(weight - (whole.integers * whole.scale[:, None])[:, :inputs])
    assert (error <= np.abs(weight).max(axis=1, keepdims=True) / 4).all()


@pytest.mark.parametrize("shape", [(4, 6), (3, 5), (1, 1), (3, 2, 7)])
def test_packed_values_are_looked_up_again(shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).integers(-8, 8, shape).astype(np.int8)
    packed = pack(values)
    assert packed.shape == (*shape[:-1], -(-shape[-1] // 2))
    read = unpacked()[packed].reshape(*shape[:-1], -1)
    assert np.array_equal(read[..., : shape[-1]], values)
    assert not read[..., shape[-1] :].any()
