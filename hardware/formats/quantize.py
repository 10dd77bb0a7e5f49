"""Quantized weights: the integers and scales that every kernel and the torch side agree on.

Arrays have the output axis first, as in torch, but lie in memory with it last, as ONNX's MatMul
wants them: transposing one costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Int8s = NDArray[np.int8]

INT8_MAX, INT8_MAX_REDUCED = 127, 63
INT4_MIN, INT4_MAX = -8, 7
MULTIPLIER_MAX, MULTIPLIER_MAX_REDUCED = 15, 7
"""Largest group multiplier: 15 * -8 = -120 stays inside INT8 for both signs, 7 * -8 in half."""
SHRINKS = (1.1, 1.0, 0.9, 0.8, 0.7)
"""Multipliers tried per group, relative to the one that maps the largest weight onto -8."""
CHUNK_WEIGHTS = 1 << 16
"""Weights worked on at a time, so that temporaries stay in the processor's cache."""


class Int8Weight(NamedTuple):
    """weight ~ values * scale; values (out, in), scale (out,)."""

    values: Int8s
    scale: Floats

    def rows(self, count: int) -> Int8Weight:
        """The first outputs: exact, since every row is quantized on its own."""
        return Int8Weight(self.values[:count], self.scale[:count])


class Int4Weight(NamedTuple):
    """weight ~ values * multiplier * scale; values (out, groups, group), multiplier (out, groups),
    scale (out,). The last group is padded with zeros when the input size is no multiple of it."""

    values: Int8s
    multiplier: Int8s
    scale: Floats

    @property
    def integers(self) -> Int8s:
        """The INT8 weights the kernel sees, padding included, (out, groups * group)."""
        return (self.values * self.multiplier[..., None]).reshape(len(self.values), -1)

    @property
    def in_features(self) -> int:
        """Input size, padding included."""
        return int(self.values.shape[1] * self.values.shape[2])

    def rows(self, count: int) -> Int4Weight:
        """The first outputs: exact, since every row is quantized on its own."""
        return Int4Weight(self.values[:count], self.multiplier[:count], self.scale[:count])


def int8_weight(weight: Floats, reduce_range: bool = False) -> Int8Weight:
    """Symmetric, one scale per output row, from a matrix (out, in)."""
    values, most = _output_last(weight.shape), INT8_MAX_REDUCED if reduce_range else INT8_MAX
    scale = np.empty(len(weight), np.float32)
    for rows in _chunks(weight):
        scale[rows] = _nonzero(np.abs(weight[rows]).max(axis=1)) / np.float32(most)
        rounded = weight[rows] / scale[rows, None]
        values[rows] = np.rint(rounded, out=rounded)
    return Int8Weight(values, scale)


def int4_weight(weight: Floats, group_size: int | None, reduce_range: bool = False) -> Int4Weight:
    """Progressive group quantization of a matrix (out, in); groups run along the input.

    One FP32 scale per row, one integer multiplier per group, chosen by squared error among
    `SHRINKS`. The multiplier wears the sign of the group's largest weight, so that this weight
    lands on -8, the longer side of INT4. After QServe, Lin et al. 2024, section 4.
    """
    most = MULTIPLIER_MAX_REDUCED if reduce_range else MULTIPLIER_MAX
    group = group_size or weight.shape[1]
    groups = -(-weight.shape[1] // group)
    values = _output_last((len(weight), groups, group))
    multiplier = _output_last((len(weight), groups))
    scale = np.empty(len(weight), np.float32)
    for rows in _chunks(weight):
        padded = np.pad(weight[rows], ((0, 0), (0, groups * group - weight.shape[1])))
        chunk = _int4_rows(padded.reshape(-1, groups, group), most)
        values[rows], multiplier[rows], scale[rows] = chunk
    return Int4Weight(values, multiplier, scale)


def _int4_rows(weight: Floats, most: int) -> Int4Weight:
    """`int4_weight` for (rows, groups, group), multipliers up to `most`."""
    peak = np.take_along_axis(weight, np.abs(weight).argmax(-1)[..., None], -1)
    scale = _nonzero(np.abs(peak).max(axis=1)[:, 0]) / np.float32(-INT4_MIN * most)
    scaled = weight / scale[:, None, None]
    ideal = peak / scale[:, None, None] / np.float32(INT4_MIN)
    tried = (np.clip(np.rint(ideal * np.float32(shrink)), -most, most) for shrink in SHRINKS)
    values, multiplier = _least_error(scaled, tried)
    return Int4Weight(values, multiplier.astype(np.int8), scale)


def _least_error(weight: Floats, steps: Iterable[Floats]) -> tuple[Int8s, Floats]:
    """Of the step sizes (rows, groups, 1) tried, take for each group that with the least squared
    error: INT4 values (rows, groups, group) and steps (rows, groups)."""
    best = np.ones((*weight.shape[:-1], 1), np.float32)
    least, buffer = np.full(best.shape, np.inf, np.float32), np.empty_like(weight)
    for tried in map(_nonzero, steps):
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


class BlockInt4Weight(NamedTuple):
    """weight ~ values * scale; values (out, groups, group) in -8..7, scale (out, groups)."""

    values: Int8s
    scale: Floats

    def rows(self, count: int) -> BlockInt4Weight:
        """The first outputs: exact, since every row is quantized on its own."""
        return BlockInt4Weight(self.values[:count], self.scale[:count])

    @property
    def packed(self) -> NDArray[np.uint8]:
        """MatMulNBits' layout: zero at 8, two values per byte, (out, groups, group / 2)."""
        unsigned = (self.values + 8).astype(np.uint8)
        packed: NDArray[np.uint8] = unsigned[..., 0::2] | unsigned[..., 1::2] << np.uint8(4)
        return packed


def block_int4_weight(weight: Floats, group_size: int) -> BlockInt4Weight:
    """MatMulNBits' format of a matrix (out, in): a floating scale per group, by squared error."""
    groups = -(-weight.shape[1] // group_size)
    values = np.empty((len(weight), groups, group_size), np.int8)
    scale = np.empty((len(weight), groups), np.float32)
    for rows in _chunks(weight):
        padded = np.pad(weight[rows], ((0, 0), (0, groups * group_size - weight.shape[1])))
        grouped = padded.reshape(-1, groups, group_size)
        values[rows], scale[rows] = _block_int4_rows(grouped)
    return BlockInt4Weight(values, scale)


def _block_int4_rows(weight: Floats) -> BlockInt4Weight:
    peak = np.take_along_axis(weight, np.abs(weight).argmax(-1)[..., None], -1)
    steps = (peak * np.float32(shrink) / np.float32(INT4_MIN) for shrink in SHRINKS)
    return BlockInt4Weight(*_least_error(weight, steps))


def pack_int4(values: Int8s) -> bytes:
    """ONNX's INT4 layout: two values per byte in row-major order, the first in the low bits."""
    flat = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
    if flat.size % 2:
        flat = np.append(flat, np.uint8(0))
    return bytes((flat[0::2] & 0xF | flat[1::2] << 4).tobytes())


def _output_last(shape: tuple[int, ...]) -> Int8s:
    """An empty array of `shape` whose first axis is the innermost in memory."""
    return np.moveaxis(np.empty((*shape[1:], shape[0]), np.int8), -1, 0)


def _nonzero(x: Floats) -> Floats:
    return np.where(x == 0, np.float32(1), x)


def _chunks(weight: Floats) -> Iterator[slice]:
    rows = max(1, CHUNK_WEIGHTS // max(1, weight.shape[1]))
    return (slice(start, start + rows) for start in range(0, len(weight), rows))
