"""INT8: symmetric weights, one scale per output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from onnx import TensorProto

from hardware.formats.format import LayerValues, LayerWriter, Variant
from hardware.formats.integer import INT8_MAX, IntegerFormat
from hardware.formats.scheme import Int4Kernel, Linear, QuantScheme
from hardware.formats.weight_memo import (
    Floats,
    chunks,
    no_floats,
    no_integers,
    nonzero,
    output_last,
)
from hardware.graph.graph_writer import Int8s
from hardware.graph.patterns import OPERANDS, integer_product, look_up, pattern

INT8_MAX_REDUCED = 63

INT8_MATMUL = pattern("Int8MatMul", [*OPERANDS, "weight", "scale"], integer_product("weight"))
"""Product of quantized activations and INT8 weights (in, out)."""
INT8_GATHER = pattern("Int8Gather", ["ids", "weight", "scale"], look_up("weight"))
"""Rows of an INT8 table (vocabulary, width), scales (vocabulary, 1)."""


class Int8Weight(NamedTuple):
    """weight ~ values * scale; values (out, in), scale (out,)."""

    values: Int8s
    scale: Floats


@dataclass(frozen=True)
class Int8Quantizer:
    """Symmetric, one scale per output row; in half the range where sums of pairs must fit INT16."""

    reduce_range: bool = False

    @property
    def largest(self) -> int:
        """Integer that a row's largest weight becomes."""
        return INT8_MAX_REDUCED if self.reduce_range else INT8_MAX

    def quantize(self, matrix: Floats) -> Int8Weight:
        """From a matrix (out, in)."""
        values, scale = output_last(matrix.shape), np.empty(len(matrix), np.float32)
        for rows in chunks(matrix):
            peak = np.abs(matrix[rows]).max(axis=1)
            scale[rows] = nonzero(peak) / np.float32(self.largest)
            rounded = matrix[rows] / scale[rows, None]
            values[rows] = np.rint(rounded, out=rounded)
        return Int8Weight(values, scale)

    def like(self, matrix: Floats) -> Int8Weight:
        """Shapes only."""
        return Int8Weight(no_integers(*matrix.shape), no_floats(len(matrix)))


class _Int8(IntegerFormat):
    name, bits, stored_as, arithmetic = "int8", 8, TensorProto.INT8, "int8"

    def dynamic_product(self, layer: LayerValues, to: LayerWriter, x: list[str]) -> None:
        to.graph.expand(INT8_MATMUL, [*x, *self.integer_columns(layer, to)], to.product(layer))

    def integer_columns(self, layer: LayerValues, to: LayerWriter) -> tuple[str, str]:
        quantized = _quantized(layer, to)
        weight = to.graph.tensor(f"{layer.name}.weight", quantized.values.T)
        return weight, to.graph.tensor(f"{layer.name}.scale", quantized.scale)

    def dequantized_columns(self, layer: LayerValues, to: LayerWriter) -> str:
        operands, columns = self.integer_columns(layer, to), f"{layer.name}/columns"
        return to.graph.node("DequantizeLinear", operands, [columns], axis=1)

    def dequantized_kernel(self, layer: LayerValues, to: LayerWriter) -> str:
        quantized = _quantized(layer, to)
        values = quantized.values.reshape(layer.weight.shape)
        weight = to.graph.tensor(f"{layer.name}.weight", values)
        scale = to.graph.tensor(f"{layer.name}.scale", quantized.scale)
        kernel = f"{layer.name}/kernel"
        return to.graph.node("DequantizeLinear", [weight, scale], [kernel], axis=0)

    def embedding(self, layer: LayerValues, to: LayerWriter) -> None:
        quantized = _quantized(layer, to)
        weight = to.graph.tensor(f"{layer.name}.weight", quantized.values)
        scale = to.graph.tensor(f"{layer.name}.scale", quantized.scale[:, None])
        to.graph.expand(INT8_GATHER, [layer.node.input[1], weight, scale], layer.node.output[0])

    def variants(
        self, linears: tuple[Linear, ...], int4_kernels: tuple[Int4Kernel, ...]
    ) -> tuple[Variant, ...]:
        every = (Variant(f"int8 {linear}", QuantScheme(linear=linear)) for linear in linears)
        return tuple(
            variant._replace(kinds=("linear",)) if variant.scheme.linear == "dynamic" else variant
            for variant in every
        )


def _quantized(layer: LayerValues, to: LayerWriter) -> Int8Weight:
    return to.quantized(layer, Int8Quantizer(to.scheme.reduce_range))


INT8 = _Int8()
