"""Formats of few bits: stored as packed codes, decoded when a session loads, computed in INT8.

The decoding is of operators with constant inputs that old sessions fold, and that runtimes agree
on: they differ in shifts, and in casts from UINT8 to INT8.
"""

from __future__ import annotations

import numpy as np
from onnx import TensorProto
from onnx.helper import make_node

from hardware.formats.codebook.weights import STEPS, Codebook, CodebookQuantizer
from hardware.formats.format import LayerValues, LayerWriter
from hardware.formats.int8 import INT8_GATHER, INT8_MATMUL
from hardware.formats.integer import IntegerFormat
from hardware.formats.scheme import QuantScheme
from hardware.formats.weight_memo import Floats
from hardware.graph.graph_writer import AnyArray
from hardware.graph.layer import LayerKind
from hardware.graph.patterns import Nodes, pattern


def _digits(source: str, powers: str, base: str, result: str) -> Nodes:
    """Numbers (..., 1) of that base as their digits (..., digits), the lowest first."""
    return [
        make_node("Div", [source, powers], [f"{source}_shifted"]),
        make_node("Mod", [f"{source}_shifted", base], [result]),
    ]


BYTES = pattern("Int32", ["bytes"], [make_node("Cast", ["bytes"], ["y"], to=TensorProto.INT32)])
WORDS = pattern(
    "Words",
    ["bytes", "places", "last"],
    [
        make_node("Cast", ["bytes"], ["wide"], to=TensorProto.INT32),
        make_node("Mul", ["wide", "places"], ["placed"]),
        make_node("ReduceSum", ["placed", "last"], ["y"], keepdims=1),
    ],
)
STEP_NUMBERS = pattern(
    "StepNumbers",
    ["bytes", "powers", "base"],
    [
        make_node("Cast", ["bytes"], ["wide"], to=TensorProto.INT32),
        *_digits("wide", "powers", "base", "steps"),
        make_node("Flatten", ["steps"], ["y"], axis=1),
    ],
)
DECODED = pattern(
    "Decoded",
    ["words", "powers", "base", "groups", "steps", "per_group", "products"],
    [
        *_digits("words", "powers", "base", "digits"),
        make_node("Reshape", ["digits", "groups"], ["codes"]),
        make_node("Mul", ["steps", "base"], ["starts"]),
        make_node("Reshape", ["starts", "per_group"], ["offsets"]),
        make_node("Add", ["codes", "offsets"], ["places"]),
        make_node("Gather", ["products", "places"], ["integers"]),
        make_node("Flatten", ["integers"], ["y"], axis=1),
    ],
)
"""Words and the numbers of their groups' steps as INT8 (out, in)."""


class CodebookFormat(IntegerFormat):
    """Weights as codes of a book."""

    stored_as, arithmetic = TensorProto.UINT8, "codes"
    book: Codebook

    def in_groups(self, kind: LayerKind, scheme: QuantScheme) -> CodebookQuantizer:
        return CodebookQuantizer(self.book, scheme.group_size, scheme.reduce_range)

    def dynamic_product(self, layer: LayerValues, to: LayerWriter, x: list[str]) -> None:
        to.graph.expand(INT8_MATMUL, [*x, *self.integer_columns(layer, to)], to.product(layer))

    def integer_columns(self, layer: LayerValues, to: LayerWriter) -> tuple[str, str]:
        rows, scale = self._rows(layer, to)
        columns = to.graph.inner(f"{layer.name}/integers")
        to.graph.node("Transpose", [rows], [columns])
        return columns, to.graph.tensor(f"{layer.name}.scale", scale)

    def dequantized_columns(self, layer: LayerValues, to: LayerWriter) -> str:
        operands, columns = self.integer_columns(layer, to), f"{layer.name}/columns"
        return to.graph.node("DequantizeLinear", operands, [columns], axis=1)

    def dequantized_kernel(self, layer: LayerValues, to: LayerWriter) -> str:
        rows, scale = self._rows(layer, to)
        shape = to.graph.tensor(f"{layer.name}.shape", np.array(layer.weight.shape, np.int64))
        values, kernel = to.graph.inner(f"{layer.name}/integers"), f"{layer.name}/kernel"
        to.graph.node("Reshape", [rows, shape], [values])
        scales = to.graph.tensor(f"{layer.name}.scale", scale)
        return to.graph.node("DequantizeLinear", [values, scales], [kernel], axis=0)

    def embedding(self, layer: LayerValues, to: LayerWriter) -> None:
        rows, scale = self._rows(layer, to)
        scales = to.graph.tensor(f"{layer.name}.scale", scale[:, None])
        to.graph.expand(INT8_GATHER, [layer.node.input[1], rows, scales], layer.node.output[0])

    def _rows(self, layer: LayerValues, to: LayerWriter) -> tuple[str, Floats]:
        """Name of the INT8 weight (out, everything that one output sums over), and its scales."""
        book, graph = self.book, to.graph
        quantizer = self.in_groups(layer.kind, to.scheme)
        weight = to.quantized(layer, quantizer)
        inner = [graph.inner(f"{layer.name}/{part}") for part in ("words", "steps", "decoded")]
        inputs = [graph.tensor(f"{layer.name}.weight", weight.packed)]
        if book.bytes_per_word > 1:
            places = [256**i for i in range(book.bytes_per_word)]
            inputs.append(self._constant(to, "places", places))
            inputs.append(graph.tensor("last", np.array([-1], np.int64)))
        words = graph.expand(WORDS if len(inputs) > 1 else BYTES, inputs, inner[0])
        operands = [
            words,
            self._constant(to, "powers", book.powers()),
            self._constant(to, "base", len(book.levels)),
            graph.tensor("grouped", np.array([0, 0, -1], np.int64)),
            self._steps(layer, to, weight.steps, weight.packed.shape[1], inner[1]),
            graph.tensor("per_group", np.array([0, -1, 1], np.int64)),
            graph.tensor(self.name, book.products(quantizer.largest).reshape(-1)),
        ]
        rows = graph.expand(DECODED, operands, inner[2])
        stored = weight.packed[0, ..., 0].size * book.codes_per_word
        return _first(to, rows, stored, layer.matrix.shape[1]), weight.scale

    def _steps(
        self, layer: LayerValues, to: LayerWriter, steps: AnyArray, groups: int, result: str
    ) -> str:
        """The number of every group's step, (out, groups)."""
        operands = [
            to.graph.tensor(f"{layer.name}.step", steps),
            to.graph.tensor("step_powers", np.array([1, STEPS], np.int32)),
            to.graph.tensor("steps", np.int32(STEPS)),
        ]
        found = to.graph.expand(STEP_NUMBERS, operands, result)
        return _first(to, found, 2 * steps.shape[1], groups)

    def _constant(self, to: LayerWriter, name: str, value: object) -> str:
        return to.graph.tensor(f"{self.name}.{name}", np.asarray(value, np.int32)[()])


def _first(to: LayerWriter, rows: str, stored: int, columns: int) -> str:
    """The first columns of a matrix, where more are stored."""
    if stored == columns:
        return rows
    ends = to.graph.tensor(f"to_{columns}", np.array([columns], np.int64))
    origin, axis = (to.graph.tensor(f"at_{i}", np.array([i], np.int64)) for i in (0, 1))
    return to.graph.node("Slice", [rows, origin, ends, axis], [to.graph.inner(f"{rows}/first")])
