"""Quantized weights remembered between candidates."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, Protocol, Self, TypeVar

import numpy as np

from hardware.formats.precision import QuantScheme
from hardware.formats.quantize import (
    BlockInt4Weight,
    Floats,
    Int4Weight,
    Int8Weight,
    block_int4_weight,
    int4_weight,
    int8_weight,
)


class _Rows(Protocol):
    def rows(self, count: int) -> Self: ...


Weight = TypeVar("Weight", bound=_Rows)


class _Store(Generic[Weight]):
    def __init__(self) -> None:
        self._entries: dict[Hashable, tuple[Floats, Weight]] = {}

    def recall(self, key: Hashable, weight: Floats, make: Callable[[Floats], Weight]) -> Weight:
        known, count = self._entries.get(key), len(weight)
        if known is None or len(known[0]) < count or not np.array_equal(known[0][:count], weight):
            known = self._entries[key] = (weight, make(weight))
        return known[1].rows(count)


class WeightMemo:
    """Quantizes each (layer, input size, precision) once; fewer rows are a slice of it.

    Exact because every output row is quantized on its own. A weight that changed (a super-network
    tuned further) is noticed by comparison and quantized again.
    """

    def __init__(self) -> None:
        self._int8: _Store[Int8Weight] = _Store()
        self._int4: _Store[Int4Weight] = _Store()
        self._blocks: _Store[BlockInt4Weight] = _Store()

    def int8(self, layer: str, weight: Floats, scheme: QuantScheme) -> Int8Weight:
        """`int8_weight` of a matrix (out, in)."""
        reduced = scheme.reduce_range
        key = (layer, weight.shape[1], reduced)
        return self._int8.recall(key, weight, lambda w: int8_weight(w, reduced))

    def int4(self, layer: str, weight: Floats, scheme: QuantScheme) -> Int4Weight:
        """`int4_weight` of a matrix (out, in)."""
        group, reduced = scheme.group_size, scheme.reduce_range
        key = (layer, weight.shape[1], group, reduced)
        return self._int4.recall(key, weight, lambda w: int4_weight(w, group, reduced))

    def block_int4(self, layer: str, weight: Floats, group_size: int) -> BlockInt4Weight:
        """`block_int4_weight` of a matrix (out, in)."""
        key = (layer, weight.shape[1], group_size)
        return self._blocks.recall(key, weight, lambda w: block_int4_weight(w, group_size))
