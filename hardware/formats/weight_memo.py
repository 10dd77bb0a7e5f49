"""Quantized weights, remembered between candidates.

Arrays have the output axis first, as in torch, but lie in memory with it last, as ONNX's MatMul
wants them: transposing one costs nothing.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from hardware.graph.graph_writer import Int8s

Floats = NDArray[np.float32]

CHUNK_WEIGHTS = 1 << 16
"""Weights worked on at a time, so that temporaries stay in the processor's cache."""


WeightT = TypeVar("WeightT", bound=tuple[NDArray[Any], ...])
"""A named tuple of integers and scales, the outputs of each along the first axis."""
MadeT = TypeVar("MadeT", bound=tuple[NDArray[Any], ...], covariant=True)


class Quantizer(Hashable, Protocol[MadeT]):
    """How a matrix (out, in) is quantized; equal ones give equal results."""

    def quantize(self, matrix: Floats) -> MadeT:
        """Integers and scales."""

    def like(self, matrix: Floats) -> MadeT:
        """The same in shapes only, no memory behind them."""


class WeightMemo:
    """Quantizes each (layer, input size, quantizer) once; fewer rows are a slice of it.

    A weight that changed (a super-network tuned further) is noticed by comparison and quantized
    again.
    """

    def __init__(self) -> None:
        self._entries: dict[Hashable, tuple[Floats, Any]] = {}

    def recall(self, layer: str, matrix: Floats, quantizer: Quantizer[WeightT]) -> WeightT:
        """The quantized matrix (out, in) of a layer."""
        key, count = (layer, matrix.shape[1], quantizer), len(matrix)
        known = self._entries.get(key)
        if known is None or len(known[0]) < count or not np.array_equal(known[0][:count], matrix):
            known = self._entries[key] = (matrix, quantizer.quantize(matrix))
        weight: WeightT = first_rows(known[1], count)
        return weight


def first_rows(weight: Any, count: int) -> Any:
    """The first outputs of a quantized weight: exact, since every row is quantized on its own."""
    return weight._make(array[:count] for array in weight)


class ShapeMemo(WeightMemo):
    """Quantized weights of the right shapes without values."""

    def recall(self, layer: str, matrix: Floats, quantizer: Quantizer[WeightT]) -> WeightT:
        """Shapes only."""
        return quantizer.like(matrix)


def output_last(shape: tuple[int, ...]) -> Int8s:
    """An empty array of `shape` whose first axis is the innermost in memory."""
    return np.moveaxis(np.empty((*shape[1:], shape[0]), np.int8), -1, 0)


def no_integers(*shape: int) -> Int8s:
    """Integers that take no memory."""
    return np.broadcast_to(np.int8(0), shape)


def no_floats(*shape: int) -> Floats:
    """Floats that take no memory."""
    return np.broadcast_to(np.float32(0), shape)


def nonzero(x: Floats) -> Floats:
    """Ones in place of zeros, to divide by."""
    return np.where(x == 0, np.float32(1), x)


def groups_of(matrix: Floats, group_size: int | None) -> tuple[int, int]:
    """How many groups a row (out, in) falls into, and inputs of each; None: one group per row.

    A row shorter than a group, a depthwise kernel's, is a group without padding.
    """
    columns = matrix.shape[1]
    group = min(group_size or columns, columns)
    return -(-columns // group), group


def tried_shrinks(peaks: Floats, shrinks: Iterable[float], last: bool) -> list[NDArray[np.float64]]:
    """Sizes of steps to try, relative to the largest weights of groups (rows, groups, 1).

    last: only those that can be told from rounded weights: a step that puts the largest weight on
    the last level or beyond; 1 where it is the row's largest, too, which sets the row's scale.
    """
    size = np.abs(peaks)
    sets_scale = (size == size.max(axis=1, keepdims=True)) & last
    return [np.where(sets_scale, 1.0, x) for x in shrinks if x <= 1 or not last]


def grouped(rows: Floats, groups: int, group: int) -> Floats:
    """(rows, in) -> (rows, groups, group), zeros at the end."""
    padded = np.pad(rows, ((0, 0), (0, groups * group - rows.shape[1])))
    return padded.reshape(-1, groups, group)


def chunks(matrix: Floats) -> Iterator[slice]:
    """Rows to work on together."""
    rows = max(1, CHUNK_WEIGHTS // max(1, matrix.shape[1]))
    return (slice(start, start + rows) for start in range(0, len(matrix), rows))
