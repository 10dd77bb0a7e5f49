"""Weights of two and three bits against brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from hardware.formats.codebook.format import CodebookFormat
from hardware.formats.codebook.weights import (
    MAGNITUDES,
    SHRINKS,
    CodebookQuantizer,
    pack,
    step_sizes,
)
from hardware.formats.int2 import INT2
from hardware.formats.int3 import INT3
from hardware.formats.int4_weights import Int4Quantizer

BOTH = pytest.mark.parametrize("precision", [INT2, INT3], ids=str)


def weights(rows: int, inputs: int) -> np.ndarray:
    return np.random.default_rng(0).standard_t(4, (rows, inputs)).astype(np.float32)


def decoded(quantizer: CodebookQuantizer, weight: np.ndarray) -> np.ndarray:
    coded = quantizer.quantize(weight)
    return quantizer.integers(coded, weight.shape[1]) * coded.scale[:, None]


@BOTH
def test_a_step_has_the_least_squared_error_of_those_tried(precision: CodebookFormat) -> None:
    weight, quantizer = weights(5, 64), CodebookQuantizer(precision.book, 16)
    products = precision.book.products(127).astype(float)
    found = quantizer.integers(quantizer.quantize(weight), 64)
    for row, start in itertools.product(range(5), range(0, 64, 16)):
        part = weight[row, start : start + 16] / (np.abs(weight[row]).max() / 127)
        peak = part[np.abs(part).argmax()]
        errors = []
        for shrink in SHRINKS:
            number = int(np.clip(np.rint(abs(peak) * shrink * MAGNITUDES / 127), 1, MAGNITUDES))
            size = -np.sign(peak) * number * 127 / MAGNITUDES
            step = int(np.abs(step_sizes(127) - size).argmin())
            nearest = np.abs(part[:, None] / size - np.array(precision.book.levels)).argmin(1)
            errors.append(np.square(part - products[step, nearest]).sum())
        error = np.square(part - found[row, start : start + 16]).sum()
        assert error == pytest.approx(min(errors), rel=1e-4)


@BOTH
@pytest.mark.parametrize("shape", [(2, 16), (3, 2, 9), (1, 1)])
def test_packed_codes_lie_in_the_lowest_bits_first(
    precision: CodebookFormat, shape: tuple[int, ...]
) -> None:
    book = precision.book
    codes = np.random.default_rng(0).integers(0, len(book.levels), shape)
    for numbers, packed in zip(
        codes.reshape(-1, shape[-1]),
        pack(codes, book).reshape(np.prod(shape[:-1], dtype=int), -1),
        strict=True,
    ):
        whole = sum(int(code) << precision.bits * i for i, code in enumerate(numbers))
        assert packed.tobytes() == whole.to_bytes(len(packed), "little")


@BOTH
@pytest.mark.parametrize("inputs", [1, 9, 27, 50, 147, 576])
def test_rows_are_independent_inside_int8_and_zeros_stay_zero(
    precision: CodebookFormat, inputs: int
) -> None:
    weight = weights(6, inputs)
    weight[0], weight[1, inputs // 2] = 0, 0
    quantizer = CodebookQuantizer(precision.book, 32)
    rounded = decoded(quantizer, weight)
    assert not rounded[weight == 0].any()
    assert np.array_equal(rounded[:2], decoded(quantizer, weight[:2]))
    halved = CodebookQuantizer(precision.book, 32, reduce_range=True)
    assert np.abs(halved.integers(halved.quantize(weight), inputs)).max() <= 63


def test_more_bits_and_smaller_groups_err_less() -> None:
    weight = weights(64, 512)
    int4 = Int4Quantizer(32).quantize(weight)
    errors = [
        np.square(weight - rounded).sum()
        for rounded in (
            decoded(CodebookQuantizer(INT2.book, 64), weight),
            decoded(CodebookQuantizer(INT2.book, 16), weight),
            decoded(CodebookQuantizer(INT3.book, 32), weight),
            int4.integers * int4.scale[:, None],
        )
    ]
    assert errors == sorted(errors, reverse=True)


@BOTH
def test_a_layer_takes_its_bits_and_half_a_byte_a_group(precision: CodebookFormat) -> None:
    coded = CodebookQuantizer(precision.book, 32).quantize(weights(16, 768))
    assert coded.packed.nbytes == 16 * 768 * precision.bits // 8
    assert coded.steps.nbytes == 16 * 768 // 32 // 2
