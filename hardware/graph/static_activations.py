"""Activations with calibrated ranges: which ones are rounded, and writing the rounding (QDQ)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Self

import numpy as np
import onnx
from numpy.typing import NDArray

from hardware.graph.graph_writer import GraphWriter

Mask = NDArray[np.bool_] | np.bool_

INT8_MAX, UINT8_MAX = 127, 255
ROUNDED = "/rounded"
"""Suffix of the name under which a value's readers see it quantized and dequantized again."""


@dataclass(frozen=True)
class Ranges(Mapping[str, tuple[float, float]]):
    """Calibrated (low, high) of values, by the names they have in the template."""

    table: Mapping[str, tuple[float, float]]

    def __getitem__(self, value: str) -> tuple[float, float]:
        if value not in self.table:
            raise ValueError(f"ranges: none was calibrated for {value}; calibrate this network")
        return self.table[value]

    def __iter__(self) -> Iterator[str]:
        return iter(self.table)

    def __len__(self) -> int:
        return len(self.table)


@dataclass(frozen=True)
class Plan:
    """Where activations are rounded.

    whole: values that every reader sees rounded: what an INT8 kernel writes.
    edge: values rounded for their quantized readers only.
    source: value -> the value whose range it has (a pooled maximum keeps its input's).
    Entries are truth values, or masks over many policies at once.
    """

    whole: dict[str, Mask] = field(default_factory=dict)
    edge: dict[str, Mask] = field(default_factory=dict)
    source: dict[str, str] = field(default_factory=dict)

    def observed(self) -> set[str]:
        """Values whose range is needed."""
        rounded = {
            value
            for table in (self.whole, self.edge)
            for value, mask in table.items()
            if mask.any()
        }
        return {self.source.get(value, value) for value in rounded}


class Step(NamedTuple):
    """What `plan` reads of a node, for who plans often: reading a `NodeProto` takes long."""

    name: str
    op_type: str
    input: tuple[str, ...]
    output: tuple[str, ...]

    @classmethod
    def of(cls, node: onnx.NodeProto) -> Self:
        """Of a template's node."""
        return cls(node.name, node.op_type, tuple(node.input), tuple(node.output))


Node = onnx.NodeProto | Step


def plan(nodes: Iterable[Node], low: Mapping[str, Mask]) -> Plan:
    """Follow the nodes in order; `low` tells by node name which layers are statically quantized.

    A convolution's INT8 kernel writes INT8, after the ReLU (or ReLU6) that follows it; sums and
    products of two such values, sigmoids and pooled maxima stay INT8.
    """
    nodes, found = list(nodes), Plan()
    users = _users(nodes)
    no = np.bool_(False)
    for node in nodes:
        if node.name in low:
            x, mask = node.input[0], low[node.name]
            found.edge[x] = found.edge.get(x, no) | (mask & ~found.whole.get(x, no))
            if node.op_type == "Conv":
                found.whole[_end(node, users)] = mask
        elif node.op_type in ("Add", "Mul") and set(node.input) <= found.whole.keys():
            left, right = (found.whole[name] for name in node.input)
            found.whole[_end(node, users)] = left & right
        elif node.op_type == "MaxPool" and node.input[0] in found.whole:
            x = node.input[0]
            found.whole[node.output[0]] = found.whole[x]
            found.source[node.output[0]] = found.source.get(x, x)
        elif node.op_type == "Sigmoid" and node.input[0] in found.whole:
            found.whole[node.output[0]] = found.whole[node.input[0]]
    return found


def _users(nodes: Iterable[Node]) -> dict[str, list[Node]]:
    users: dict[str, list[Node]] = {}
    for node in nodes:
        for name in node.input:
            users.setdefault(name, []).append(node)
    return users


def _end(node: Node, users: Mapping[str, list[Node]]) -> str:
    """The node's value, or that of the ReLU or ReLU6 which alone reads it and joins its kernel."""
    readers = users.get(node.output[0], [])
    if len(readers) == 1 and readers[0].op_type in ("Relu", "Clip"):
        return str(readers[0].output[0])
    return str(node.output[0])


class StaticActivations:
    """Writes the rounding that a plan asks for, each value once."""

    def __init__(
        self, graph: GraphWriter, found: Plan, ranges: Ranges, *, symmetric: bool = False
    ) -> None:
        self._graph, self._plan, self._ranges = graph, found, ranges
        self._steps = symmetric_steps if symmetric else scale_and_zero_point

    def reader(self, value: str) -> str:
        """The name under which any node reads `value`."""
        return value + ROUNDED if self._plan.whole.get(value) else value

    def rounded(self, value: str) -> str:
        """The name under which a convolution reads `value`."""
        name = value + ROUNDED
        if not self._graph.knows(name):
            self._graph.node("DequantizeLinear", self.quantized(value), [name])
        return name

    def quantized(self, value: str) -> list[str]:
        """Names of the integers, scale and zero point of `value`."""
        source, name = self._plan.source.get(value, value), f"{value}/static"
        scale, zero_point = self._steps(*self._ranges[source])
        parameters = [
            self._graph.tensor(f"{source}/static_scale", scale),
            self._graph.tensor(f"{source}/static_zero_point", zero_point),
        ]
        if not self._graph.knows(name):
            self._graph.node("QuantizeLinear", [value, *parameters], [name])
        return [name, *parameters]

    def written(self, values: Iterable[str]) -> None:
        """Round values that were just computed, if every reader is to see them so."""
        for value in values:
            if self._plan.whole.get(value):
                self.rounded(value)


def symmetric_steps(low: float, high: float) -> tuple[np.float32, np.int8]:
    """Signed steps around zero, the only ones TensorRT has."""
    largest = np.float32(max(abs(low), abs(high)))
    return np.float32(largest / np.float32(INT8_MAX) or 1), np.int8(0)


def scale_and_zero_point(low: float, high: float) -> tuple[np.float32, np.uint8]:
    """Unsigned asymmetric steps over a range widened to hold zero, in FP32 as ONNX defines."""
    low32, high32 = min(np.float32(low), np.float32(0)), max(np.float32(high), np.float32(0))
    scale = (high32 - low32) / np.float32(UINT8_MAX) or np.float32(1)
    return np.float32(scale), np.uint8(np.clip(np.rint(-low32 / scale), 0, UINT8_MAX))
