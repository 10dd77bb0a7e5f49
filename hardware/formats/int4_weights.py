"""INT4 weights: the integers, multipliers and scales of both of its kernels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hardware.formats.weight_memo import (
    Floats,
    chunks,
    grouped,
    groups_of,
    no_floats,
    no_integers,
    nonzero,
    output_last,
    tried_shrinks,
)
from hardware.graph.graph_writer import Int8s

INT4_MIN, INT4_MAX = -8, 7
MULTIPLIER_MAX, MULTIPLIER_MAX_REDUCED = 15, 7
"""Largest group multiplier: 15 * -8 = -120 stays inside INT8 for both signs, 7 * -8 in half."""
Bytes = NDArray[np.uint8]
SHRINKS = (1.1, 1.0, 0.9, 0.8, 0.7)
"""Multipliers tried per group, relative to the one that maps the largest weight onto -8."""


class Int4Weight(NamedTuple):
    """weight ~ values * multiplier * scale; values (out, groups, group), two to a byte, multiplier
    (out, groups), scale (out,). Where the input size is no multiple of the group, or odd, the last
    group is padded with zeros."""

    packed: Bytes
    multiplier: Int8s
    scale: Floats

    @property
    def integers(self) -> Int8s:
        """The INT8 weights the kernel sees, padding included, (out, groups * group)."""
        values = unpacked()[self.packed].reshape(*self.packed.shape[:2], -1)
        return (values * self.multiplier[..., None]).reshape(len(values), -1)


@dataclass(frozen=True)
class Int4Quantizer:
    """Progressive group quantization; groups run along the input, None for one per row.

    One FP32 scale per row, one integer multiplier per group, chosen by squared error among
    `SHRINKS`. The multiplier wears the sign of the group's largest weight, so that this weight
    lands on -8, the longer side of INT4. After QServe, Lin et al. 2024, section 4.
    """

    group_size: int | None
    reduce_range: bool = False

    @property
    def multiplier_max(self) -> int:
        """Largest group multiplier."""
        return MULTIPLIER_MAX_REDUCED if self.reduce_range else MULTIPLIER_MAX

    @property
    def largest(self) -> int:
        """Integer that a row's largest weight becomes, its group's multiplier included."""
        return -INT4_MIN * self.multiplier_max

    def quantize(self, matrix: Floats) -> Int4Weight:
        """From a matrix (out, in)."""
        groups, group = groups_of(matrix, self.group_size)
        packed = np.empty((len(matrix), groups, -(-group // 2)), np.uint8)
        multiplier = output_last((len(matrix), groups))
        scale = np.empty(len(matrix), np.float32)
        for rows in chunks(matrix):
            values, multiplier[rows], scale[rows] = _int4_rows(
                grouped(matrix[rows], groups, group), self.multiplier_max
            )
            packed[rows] = pack(values)
        return Int4Weight(packed, multiplier, scale)

    def decoded(self, matrix: Floats) -> Floats:
        """What a quantized matrix (out, in) computes with."""
        weight = self.quantize(matrix)
        return weight.integers[:, : matrix.shape[1]] * weight.scale[:, None]

    def levels(self, matrix: Floats) -> Floats:
        """See `error_feedback.GroupQuantizer`."""
        rows = grouped(matrix, *groups_of(matrix, self.group_size))
        _, multiplier, scale = _int4_rows(rows, self.multiplier_max, last=True)
        return _values(nonzero(multiplier.astype(np.float32)) * scale[:, None])

    def like(self, matrix: Floats) -> Int4Weight:
        """Shapes only."""
        out, (groups, group) = len(matrix), groups_of(matrix, self.group_size)
        packed = no_integers(out, groups, -(-group // 2)).view(np.uint8)
        return Int4Weight(packed, no_integers(out, groups), no_floats(out))


class BlockInt4Weight(NamedTuple):
    """weight ~ values * scale; values (out, groups, group) in -8..7, scale (out, groups)."""

    values: Int8s
    scale: Floats

    @property
    def packed(self) -> Bytes:
        """MatMulNBits' layout: zero at 8, two values per byte, (out, groups, group / 2)."""
        return pack(self.values)


@dataclass(frozen=True)
class BlockInt4Quantizer:
    """MatMulNBits' format: a floating scale per group, by squared error."""

    group_size: int

    def quantize(self, matrix: Floats) -> BlockInt4Weight:
        """From a matrix (out, in)."""
        groups, group = self._blocks(matrix), self.group_size
        values = np.empty((len(matrix), groups, group), np.int8)
        scale = np.empty((len(matrix), groups), np.float32)
        for rows in chunks(matrix):
            values[rows], scale[rows] = _block_int4_rows(grouped(matrix[rows], groups, group))
        return BlockInt4Weight(values, scale)

    def decoded(self, matrix: Floats) -> Floats:
        """What a quantized matrix (out, in) computes with."""
        values, scale = self.quantize(matrix)
        whole = (values * scale[..., None]).reshape(len(matrix), -1)
        return whole[:, : matrix.shape[1]]

    def levels(self, matrix: Floats) -> Floats:
        """See `error_feedback.GroupQuantizer`."""
        rows = grouped(matrix, self._blocks(matrix), self.group_size)
        return _values(_block_int4_rows(rows, last=True).scale)

    def like(self, matrix: Floats) -> BlockInt4Weight:
        """Shapes only."""
        out, groups = len(matrix), self._blocks(matrix)
        return BlockInt4Weight(no_integers(out, groups, self.group_size), no_floats(out, groups))

    def _blocks(self, matrix: Floats) -> int:
        columns: int = matrix.shape[1]
        return -(-columns // self.group_size)


def _int4_rows(weight: Floats, most: int, last: bool = False) -> tuple[Int8s, Int8s, Floats]:
    """`Int4Quantizer` for (rows, groups, group), multipliers up to `most`: values, multipliers,
    scales. last: see `tried_shrinks`."""
    peak = np.take_along_axis(weight, np.abs(weight).argmax(-1)[..., None], -1)
    scale = nonzero(np.abs(peak).max(axis=1)[:, 0]) / np.float32(-INT4_MIN * most)
    scaled = weight / scale[:, None, None]
    ideal = peak / scale[:, None, None] / np.float32(INT4_MIN)
    shrinks = tried_shrinks(peak, SHRINKS, last)
    tried = (np.clip(np.rint(ideal * shrink.astype(np.float32)), -most, most) for shrink in shrinks)
    values, multiplier = _least_error(scaled, tried)
    return values, multiplier.astype(np.int8), scale


def _block_int4_rows(weight: Floats, last: bool = False) -> BlockInt4Weight:
    peak = np.take_along_axis(weight, np.abs(weight).argmax(-1)[..., None], -1)
    shrinks = tried_shrinks(peak, SHRINKS, last)
    steps = (peak * shrink.astype(np.float32) / np.float32(INT4_MIN) for shrink in shrinks)
    return BlockInt4Weight(*_least_error(weight, steps))


def _values(steps: Floats) -> Floats:
    """What INT4 stands for under steps (rows, groups), ascending, (rows, groups, 16)."""
    return np.sort(steps[..., None] * np.arange(INT4_MIN, INT4_MAX + 1, dtype=np.float32))


def _least_error(weight: Floats, steps: Iterable[Floats]) -> tuple[Int8s, Floats]:
    """Of the step sizes (rows, groups, 1) tried, take for each group that with the least squared
    error: INT4 values (rows, groups, group) and steps (rows, groups)."""
    best = np.ones((*weight.shape[:-1], 1), np.float32)
    least, buffer = np.full(best.shape, np.inf, np.float32), np.empty_like(weight)
    for tried in map(nonzero, steps):
        _round_int4(weight, tried, buffer)
        np.multiply(buffer, tried, out=buffer)
        np.subtract(weight, buffer, out=buffer)
        error = np.einsum("rgi,rgi->rg", buffer, buffer)[..., None]
        better = error < least
        np.copyto(least, error, where=better)
        np.copyto(best, tried, where=better)
    _round_int4(weight, best, buffer)
    return buffer.astype(np.int8), best[..., 0]


def _round_int4(weight: Floats, step: Floats, result: Floats) -> None:
    np.divide(weight, step, out=result)
    np.rint(result, out=result)
    np.clip(result, INT4_MIN, INT4_MAX, out=result)


def pack(values: Int8s) -> Bytes:
    """Values from -8 to 7, two to a byte along the last axis, the first in the low bits, a zero
    behind the last where their number is odd."""
    if values.shape[-1] % 2:
        values = np.pad(values, [*[(0, 0)] * (values.ndim - 1), (0, 1)])
    codes = (values + np.int8(8)).view(np.uint8)
    packed: Bytes = codes[..., 0::2] | codes[..., 1::2] << np.uint8(4)
    return packed


def unpacked() -> Int8s:
    """The two values of every byte, (256, 2): what undoes `pack`."""
    every = np.arange(256)
    values: Int8s = (np.stack([every & 15, every >> 4], axis=1) - 8).astype(np.int8)
    return values
