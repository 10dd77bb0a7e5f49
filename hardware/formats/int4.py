"""INT4: stored in groups with multipliers and computed in INT8, or ONNX Runtime's MatMulNBits."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto
from onnx.helper import make_node

from hardware.formats.error_feedback import GroupQuantizer
from hardware.formats.format import LayerValues, LayerWriter, StoredLayer, Variant
from hardware.formats.int4_weights import (
    MULTIPLIER_MAX,
    BlockInt4Quantizer,
    Int4Quantizer,
    Int4Weight,
    unpacked,
)
from hardware.formats.integer import IntegerFormat
from hardware.formats.scheme import Int4Kernel, Linear, QuantScheme
from hardware.graph.graph_writer import MICROSOFT
from hardware.graph.layer import LayerKind
from hardware.graph.patterns import OPERANDS, Nodes, integer_product, look_up, pattern

WEIGHT = ("weight", "products", "step", "per_step", "scale")
CUT = ("origin", "ends")
CODES = "int4"
"""Values of the two INT4 in each byte, (256, 2); files tell by it that a weight is INT4."""
BLOCK_KERNEL = "MatMulNBits"


def _rows(cut: bool, result: str = "w") -> Nodes:
    """(out, groups, half a group) bytes -> INT8 (out, in), `cut` to size where groups are padded.

    A byte and its group's multiplier are looked up together among all their products. All inputs
    are constant, so that sessions do this when they load, with operators that old ones have too.
    """
    whole = "whole" if cut else result
    nodes = [
        make_node("Cast", ["weight"], ["bytes"], to=TensorProto.INT32),
        make_node("Cast", ["step"], ["steps"], to=TensorProto.INT32),
        make_node("Mul", ["steps", "per_step"], ["offsets"]),
        make_node("Add", ["bytes", "offsets"], ["places"]),
        make_node("Gather", ["products", "places"], ["pairs"]),
        make_node("Flatten", ["pairs"], [whole], axis=1),
    ]
    if cut:
        nodes.append(make_node("Slice", ["whole", *CUT], [result]))
    return nodes


def _columns(cut: bool, result: str = "w") -> Nodes:
    """The same as INT8 (in, out)."""
    return [*_rows(cut, "rows"), make_node("Transpose", ["rows"], [result])]


def _dequantize(axis: int) -> Nodes:
    return [make_node("DequantizeLinear", ["w", "scale"], ["y"], axis=axis)]


def _pair(
    name: str, inputs: tuple[str, ...], whole: Nodes, cut: Nodes
) -> tuple[onnx.FunctionProto, onnx.FunctionProto]:
    """A pattern, and the same where padding has to be cut off."""
    return pattern(name, inputs, whole), pattern(f"{name}Cut", (*inputs, *CUT), cut)


INT4_MATMUL = _pair(
    "Int4MatMul",
    (*OPERANDS, *WEIGHT),
    [*_columns(cut=False), *integer_product("w")],
    [*_columns(cut=True), *integer_product("w")],
)
"""Product of quantized activations and INT4 weights."""

INT4_INTEGERS = _pair("Int4Integers", WEIGHT[:-1], _columns(False, "y"), _columns(True, "y"))
"""INT4 weights of a linear layer as the INT8 operand of an integer product."""

INT4_COLUMNS = _pair(
    "Int4Columns",
    WEIGHT,
    [*_columns(cut=False), *_dequantize(axis=1)],
    [*_columns(cut=True), *_dequantize(axis=1)],
)
"""INT4 weights of a linear layer as the dequantized operand of a QDQ product."""

_RESHAPE = make_node("Reshape", ["rows", "shape"], ["w"])
INT4_KERNEL = _pair(
    "Int4Kernel",
    (*WEIGHT, "shape"),
    [*_rows(False, "rows"), _RESHAPE, *_dequantize(axis=0)],
    [*_rows(True, "rows"), _RESHAPE, *_dequantize(axis=0)],
)
"""INT4 weights of a convolution as the dequantized operand of a QDQ convolution."""

INT4_GATHER = _pair(
    "Int4Gather",
    ("ids", *WEIGHT),
    [*_rows(cut=False), *look_up("w")],
    [*_rows(cut=True), *look_up("w")],
)
"""Looked-up rows of an INT4 table."""


class _Int4(IntegerFormat):
    name, bits, stored_as, arithmetic = "int4", 4, TensorProto.UINT8, "int4"
    decoder = CODES

    def is_static(self, kind: LayerKind, scheme: QuantScheme) -> bool:
        return super().is_static(kind, scheme) and not (kind == "linear" and scheme.blocks)

    def in_groups(self, kind: LayerKind, scheme: QuantScheme) -> GroupQuantizer:
        if kind == "linear" and scheme.blocks:
            return BlockInt4Quantizer(block_size(scheme))
        return _quantizer(scheme)

    def reads_back(self, stored: StoredLayer) -> bool:
        return stored.operator == BLOCK_KERNEL or super().reads_back(stored)

    def variants(
        self, linears: tuple[Linear, ...], int4_kernels: tuple[Int4Kernel, ...]
    ) -> tuple[Variant, ...]:
        every = (Variant(f"int4 {name}", QuantScheme(int4_kernel=name)) for name in int4_kernels)
        return tuple(
            variant._replace(kinds=("linear",)) if variant.scheme.blocks else variant
            for variant in every
        )

    def linear(self, layer: LayerValues, to: LayerWriter) -> None:
        if to.scheme.blocks:
            self._block_product(layer, to)
            to.add_bias(layer)
        else:
            super().linear(layer, to)

    def dynamic_product(self, layer: LayerValues, to: LayerWriter, x: list[str]) -> None:
        weight, cut = _stored(layer, to)
        to.graph.expand(INT4_MATMUL[bool(cut)], [*x, *weight, *cut], to.product(layer))

    def integer_columns(self, layer: LayerValues, to: LayerWriter) -> tuple[str, str]:
        (*weight, scale), cut = _stored(layer, to)
        inputs, columns = [*weight, *cut], f"{layer.name}/columns"
        return to.graph.expand(INT4_INTEGERS[bool(cut)], inputs, columns), scale

    def dequantized_columns(self, layer: LayerValues, to: LayerWriter) -> str:
        weight, cut = _stored(layer, to)
        return to.graph.expand(INT4_COLUMNS[bool(cut)], [*weight, *cut], f"{layer.name}/columns")

    def dequantized_kernel(self, layer: LayerValues, to: LayerWriter) -> str:
        stored, cut = _stored(layer, to)
        shape = to.graph.tensor(f"{layer.name}.shape", np.array(layer.weight.shape, np.int64))
        inputs = [*stored, shape, *cut]
        return to.graph.expand(INT4_KERNEL[bool(cut)], inputs, f"{layer.name}/kernel")

    def embedding(self, layer: LayerValues, to: LayerWriter) -> None:
        stored, cut = _stored(layer, to)
        inputs = [layer.node.input[1], *stored, *cut]
        to.graph.expand(INT4_GATHER[bool(cut)], inputs, layer.node.output[0])

    def _block_product(self, layer: LayerValues, to: LayerWriter) -> None:
        """ONNX Runtime's weight-only INT4; accuracy level 4 rounds activations per group."""
        out, in_features = layer.weight.shape
        group = block_size(to.scheme)
        quantized = to.quantized(layer, BlockInt4Quantizer(group))
        inputs = [
            to.activations.reader(layer.node.input[0]),
            to.graph.tensor(f"{layer.name}.weight", quantized.packed),
            to.graph.tensor(f"{layer.name}.scale", quantized.scale),
        ]
        sizes = {"K": in_features, "N": out, "bits": 4, "block_size": group, "accuracy_level": 4}
        to.graph.node(BLOCK_KERNEL, inputs, [to.product(layer)], domain=MICROSOFT, **sizes)


def _quantized(layer: LayerValues, to: LayerWriter) -> Int4Weight:
    return to.quantized(layer, _quantizer(to.scheme))


def _quantizer(scheme: QuantScheme) -> Int4Quantizer:
    return Int4Quantizer(scheme.group_size, scheme.reduce_range)


def _stored(layer: LayerValues, to: LayerWriter) -> tuple[list[str], list[str]]:
    """Inputs of a pattern, as `WEIGHT` and, if there is padding to cut off, `CUT` name them."""
    quantized = _quantized(layer, to)
    steps = (quantized.multiplier + np.int8(MULTIPLIER_MAX)).view(np.uint8)[..., None]
    scale = quantized.scale[:, None] if layer.kind == "embedding" else quantized.scale
    weight = [
        to.graph.tensor(f"{layer.name}.weight", quantized.packed),
        _products(to),
        to.graph.tensor(f"{layer.name}.step", steps),
        to.graph.tensor("256", np.int32(256)),
        to.graph.tensor(f"{layer.name}.scale", scale),
    ]
    rows, columns = layer.matrix.shape
    if quantized.packed[0].size * 2 == columns:
        return weight, []
    ends = to.graph.tensor(f"to_{rows}_{columns}", np.array([rows, columns], np.int64))
    return weight, [to.graph.tensor("origin", np.zeros(2, np.int64)), ends]


def _products(to: LayerWriter) -> str:
    """INT8 (multipliers * 256, 2): both values of a byte times a multiplier; once a graph."""
    values, products, integers, table = (
        to.graph.shared(f"{CODES}/{part}") for part in ("values", "products", "integers", "table")
    )
    if not to.graph.knows(table):
        multipliers = np.arange(-MULTIPLIER_MAX, MULTIPLIER_MAX + 1, dtype=np.float32)
        every = to.graph.tensor(f"{CODES}.multipliers", multipliers[:, None, None])
        pairs = to.graph.tensor(f"{CODES}.pairs", np.array([-1, 2], np.int64))
        codes = to.graph.tensor(CODES, unpacked())
        to.graph.node("Cast", [codes], [values], to=TensorProto.FLOAT)
        to.graph.node("Mul", [every, values], [products])
        to.graph.node("Cast", [products], [integers], to=TensorProto.INT8)
        to.graph.node("Reshape", [integers, pairs], [table])
    return table


def block_size(scheme: QuantScheme) -> int:
    """The group size MatMulNBits is to use. Raises ValueError where there are no groups."""
    if scheme.group_size is None:
        raise ValueError(
            "quantization.group_size: matmulnbits needs groups, got null; take 32, or "
            "int4_kernel: w4a8"
        )
    return scheme.group_size


INT4 = _Int4()
