"""Weights of two or three bits: codes that stand for levels, which groups stretch by steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hardware.formats.int8 import Int8Quantizer
from hardware.formats.weight_memo import (
    Floats,
    chunks,
    grouped,
    groups_of,
    no_floats,
    no_integers,
    nonzero,
    tried_shrinks,
)
from hardware.graph.graph_writer import Int8s

Bytes = NDArray[np.uint8]
Codes = NDArray[np.int64]
MAGNITUDES = 8
"""Step sizes, in equal distances up to that of the row's largest weight; each in both signs."""
STEPS = 2 * MAGNITUDES
SHRINKS = (1.2, 1.0, 0.85, 0.7, 0.55)
"""Steps tried per group, relative to the one that maps the largest weight onto -1."""


@dataclass(frozen=True)
class Codebook:
    """What the codes stand for, from -1 upwards; zero is among them, so that zeros are kept.

    `codes_per_word` of them lie in `bytes_per_word` bytes, the first in the lowest bits.
    """

    levels: tuple[float, ...]
    codes_per_word: int
    bytes_per_word: int

    @property
    def middles(self) -> Floats:
        """Where the next level begins to be the nearest."""
        levels = np.array(self.levels, np.float32)
        return (levels[1:] + levels[:-1]) / np.float32(2)

    def products(self, largest: int) -> Int8s:
        """The integer of every code under every step, (STEPS, levels)."""
        every = step_sizes(largest)[:, None] * np.array(self.levels, np.float32)
        return np.rint(every).astype(np.int8)

    def powers(self) -> NDArray[np.int32]:
        """By what a word is divided to have each of its codes in the lowest place."""
        return np.array([len(self.levels) ** i for i in range(self.codes_per_word)], np.int32)

    def words(self, columns: int) -> int:
        """Words that so many codes take."""
        return -(-columns // self.codes_per_word)


def step_sizes(largest: int) -> Floats:
    """The step of every number, first those that keep the signs, (STEPS,)."""
    positive = np.arange(1, MAGNITUDES + 1, dtype=np.float32) * np.float32(largest / MAGNITUDES)
    return np.concatenate([positive, -positive])


class CodebookWeight(NamedTuple):
    """weight ~ products[step, code] * scale.

    packed: (out, groups, words, bytes), a group that is no whole number of words filled with zero
    codes; steps: two to a byte, (out, pairs of groups, 1); scale: (out,).
    """

    packed: Bytes
    steps: Bytes
    scale: Floats


@dataclass(frozen=True)
class CodebookQuantizer:
    """One FP32 scale per row, one of `STEPS` per group of inputs (None: one group per row).

    A group's step has the least squared error of those tried. Its sign is that of the group's
    largest weight turned round: the levels reach further below zero than above.
    """

    book: Codebook
    group_size: int | None
    reduce_range: bool = False

    @property
    def largest(self) -> int:
        """Integer that a row's largest weight becomes."""
        return Int8Quantizer(self.reduce_range).largest

    def quantize(self, matrix: Floats) -> CodebookWeight:
        """From a matrix (out, in)."""
        groups, group = groups_of(matrix, self.group_size)
        words = self.book.words(group)
        packed = np.empty((len(matrix), groups, words, self.book.bytes_per_word), np.uint8)
        steps = np.empty((len(matrix), -(-groups // 2), 1), np.uint8)
        scale = np.empty(len(matrix), np.float32)
        for rows in chunks(matrix):
            codes, step, scale[rows] = self._rows(grouped(matrix[rows], groups, group))
            packed[rows] = pack(codes, self.book)
            steps[rows] = _pairs(step)
        return CodebookWeight(packed, steps, scale)

    def like(self, matrix: Floats) -> CodebookWeight:
        """Shapes only."""
        out, (groups, group) = len(matrix), groups_of(matrix, self.group_size)
        packed = no_integers(out, groups, self.book.words(group), self.book.bytes_per_word)
        steps = no_integers(out, -(-groups // 2), 1)
        return CodebookWeight(packed.view(np.uint8), steps.view(np.uint8), no_floats(out))

    def decoded(self, matrix: Floats) -> Floats:
        """What a quantized matrix (out, in) computes with."""
        weight = self.quantize(matrix)
        return self.integers(weight, matrix.shape[1]) * weight.scale[:, None]

    def levels(self, matrix: Floats) -> Floats:
        """See `error_feedback.GroupQuantizer`."""
        _, steps, scale = self._rows(grouped(matrix, *groups_of(matrix, self.group_size)), True)
        products = np.sort(self.book.products(self.largest).astype(np.float32))
        return products[steps] * scale[:, None, None]

    def integers(self, weight: CodebookWeight, columns: int) -> Int8s:
        """The INT8 weights that the kernel sees, (out, columns)."""
        book, groups = self.book, weight.packed.shape[1]
        places = np.array([256**i for i in range(book.bytes_per_word)])
        words = (weight.packed * places).sum(-1, keepdims=True)
        codes = words // book.powers() % len(book.levels)
        steps = (weight.steps // np.array([1, STEPS]) % STEPS).reshape(len(codes), -1)[:, :groups]
        found: Int8s = book.products(self.largest)[
            steps[..., None], codes.reshape(*codes.shape[:2], -1)
        ]
        rows: Int8s = found.reshape(len(codes), -1)[:, :columns]
        return rows

    def _rows(self, weight: Floats, last: bool = False) -> tuple[Codes, Codes, Floats]:
        """Of (rows, groups, group): codes, numbers of steps (rows, groups), scales (rows,).

        last: see `tried_shrinks`.
        """
        sizes, products = step_sizes(self.largest), self.book.products(self.largest)
        products = products.astype(np.float32)
        peak = np.take_along_axis(weight, np.abs(weight).argmax(-1)[..., None], -1)
        scale = nonzero(np.abs(peak).max(axis=1)[:, 0]) / np.float32(self.largest)
        scaled, ideal = weight / scale[:, None, None], peak / scale[:, None, None]
        best_step = np.zeros(peak.shape, np.int64)
        best, least = np.zeros(weight.shape, np.int64), np.full(peak.shape, np.inf, np.float32)
        for shrink in tried_shrinks(peak, SHRINKS, last):
            step = _tried(ideal, shrink, self.largest)
            codes = np.searchsorted(self.book.middles, scaled / sizes[step])
            error = np.square(scaled - products[step, codes]).sum(-1, keepdims=True)
            better = error < least
            np.copyto(least, error, where=better)
            np.copyto(best_step, step, where=better)
            np.copyto(best, codes, where=better)
        return best, best_step[..., 0], scale


def _tried(ideal: Floats, shrink: NDArray[np.float64], largest: int) -> Codes:
    """Number of the step that maps groups' peaks, made smaller, onto -1."""
    size = np.rint(np.abs(ideal) * (shrink * MAGNITUDES / largest).astype(np.float32))
    magnitude = np.clip(size, 1, MAGNITUDES).astype(np.int64) - 1
    number: Codes = magnitude + MAGNITUDES * (ideal > 0)
    return number


def pack(codes: Codes, book: Codebook) -> Bytes:
    """Codes (..., group) as bytes (..., words, bytes)."""
    words = book.words(codes.shape[-1])
    padding = words * book.codes_per_word - codes.shape[-1]
    filled = np.pad(codes, [*[(0, 0)] * (codes.ndim - 1), (0, padding)])
    numbers = (filled.reshape(*codes.shape[:-1], words, -1) * book.powers()).sum(-1)
    places = [numbers >> 8 * i & 255 for i in range(book.bytes_per_word)]
    return np.stack(places, -1).astype(np.uint8)


def _pairs(steps: Codes) -> Bytes:
    """Steps (rows, groups) two to a byte, (rows, pairs, 1)."""
    filled = np.pad(steps, ((0, 0), (0, steps.shape[1] % 2)))
    return (filled[:, 0::2] + filled[:, 1::2] * STEPS).astype(np.uint8)[..., None]
