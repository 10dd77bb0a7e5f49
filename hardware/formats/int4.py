"""INT4: stored in groups with multipliers and computed in INT8, or ONNX Runtime's MatMulNBits."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto
from onnx.helper import make_node

from hardware.formats.format import LayerValues, LayerWriter, StoredLayer, Variant
from hardware.formats.int4_weights import BlockInt4Quantizer, Int4Quantizer, Int4Weight
from hardware.formats.integer import IntegerFormat
from hardware.formats.scheme import Int4Kernel, Linear, QuantScheme
from hardware.formats.weight_memo import Floats
from hardware.graph.graph_writer import MICROSOFT, Int8s
from hardware.graph.onnx_functions import OPERANDS, Nodes, function, integer_product, look_up
from hardware.graph.template import LayerKind

WEIGHT = ("weight", "multiplier", "weight_scale")
BLOCK_KERNEL = "MatMulNBits"


def _decode(axis: int, cut: str | None, result: str) -> Nodes:
    """INT4 times its groups' multipliers fits INT8; the groups are joined at `axis`, and the last
    one's padding is cut off along the axis that the constant `cut` holds."""
    flat = "padded" if cut else result
    nodes = [
        make_node("Cast", ["weight"], ["values"], to=TensorProto.INT8),
        make_node("Mul", ["values", "multiplier"], ["grouped"]),
        make_node("Flatten", ["grouped"], [flat], axis=axis),
    ]
    if cut:
        nodes.append(make_node("Slice", ["padded", "zero", "in_features", cut], [result]))
    return nodes


def _columns(cut: bool, result: str = "w") -> Nodes:
    """(groups, group, out) -> INT8 (in, out)."""
    return _decode(2, "zero" if cut else None, result)


def _rows(cut: bool, result: str = "w") -> Nodes:
    """(out, groups, group) -> INT8 (out, in)."""
    return _decode(1, "one" if cut else None, result)


def _dequantize(axis: int) -> Nodes:
    return [make_node("DequantizeLinear", ["w", "weight_scale"], ["y"], axis=axis)]


def _pair(
    name: str, inputs: tuple[str, ...], whole: Nodes, cut: Nodes, places: tuple[str, ...]
) -> tuple[onnx.FunctionProto, onnx.FunctionProto]:
    """A function, and the same where padding has to be cut off."""
    longer = [*inputs, *places, "in_features"]
    return function(name, inputs, whole), function(f"{name}Cut", longer, cut)


INT4_MATMUL = _pair(
    "Int4MatMul",
    (*OPERANDS, *WEIGHT),
    [*_columns(cut=False), *integer_product("w")],
    [*_columns(cut=True), *integer_product("w")],
    ("zero",),
)
"""Product of quantized activations and INT4 weights (groups, group, out)."""

INT4_INTEGERS = _pair(
    "Int4Integers", WEIGHT[:2], _columns(False, "y"), _columns(True, "y"), ("zero",)
)
"""INT4 weights of a linear layer as the INT8 operand of an integer product."""

INT4_COLUMNS = _pair(
    "Int4Columns",
    WEIGHT,
    [*_columns(cut=False), *_dequantize(axis=1)],
    [*_columns(cut=True), *_dequantize(axis=1)],
    ("zero",),
)
"""INT4 weights of a linear layer as the dequantized operand of a QDQ product."""

_RESHAPE = make_node("Reshape", ["rows", "shape"], ["w"])
INT4_KERNEL = _pair(
    "Int4Kernel",
    (*WEIGHT, "shape"),
    [*_rows(False, "rows"), _RESHAPE, *_dequantize(axis=0)],
    [*_rows(True, "rows"), _RESHAPE, *_dequantize(axis=0)],
    ("zero", "one"),
)
"""INT4 weights of a convolution as the dequantized operand of a QDQ convolution."""

INT4_GATHER = _pair(
    "Int4Gather",
    ("ids", *WEIGHT),
    [*_rows(cut=False), *look_up("w")],
    [*_rows(cut=True), *look_up("w")],
    ("zero", "one"),
)
"""Looked-up INT4 rows (vocabulary, groups, group), which sessions decode when they load."""


class _Int4(IntegerFormat):
    name, bits, stored_as, arithmetic = "int4", 4, TensorProto.INT4, "int4"

    def is_static(self, kind: LayerKind, scheme: QuantScheme) -> bool:
        return super().is_static(kind, scheme) and not (kind == "linear" and scheme.blocks)

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
        weight, cut = self._stored_columns(layer, to)
        to.graph.call(INT4_MATMUL[bool(cut)], [*x, *weight, *cut], to.product(layer))

    def integer_columns(self, layer: LayerValues, to: LayerWriter) -> tuple[str, str]:
        (values, multiplier, scale), cut = self._stored_columns(layer, to)
        inputs, columns = [values, multiplier, *cut], f"{layer.name}/columns"
        return to.graph.call(INT4_INTEGERS[bool(cut)], inputs, columns), scale

    def dequantized_columns(self, layer: LayerValues, to: LayerWriter) -> str:
        weight, cut = self._stored_columns(layer, to)
        return to.graph.call(INT4_COLUMNS[bool(cut)], [*weight, *cut], f"{layer.name}/columns")

    def dequantized_kernel(self, layer: LayerValues, to: LayerWriter) -> str:
        quantized = _quantized(layer, to)
        multiplier = quantized.multiplier[..., None]
        stored = _tensors(layer, to, quantized.values, multiplier, quantized.scale)
        shape = to.graph.tensor(f"{layer.name}.shape", np.array(layer.weight.shape, np.int64))
        cut = _cut(layer, to, quantized, ["zero", "one"])
        inputs = [*stored, shape, *cut]
        return to.graph.call(INT4_KERNEL[bool(cut)], inputs, f"{layer.name}/kernel")

    def embedding(self, layer: LayerValues, to: LayerWriter) -> None:
        quantized = _quantized(layer, to)
        multiplier, scale = quantized.multiplier[..., None], quantized.scale[:, None]
        stored = _tensors(layer, to, quantized.values, multiplier, scale)
        cut = _cut(layer, to, quantized, ["zero", "one"])
        inputs = [layer.node.input[1], *stored, *cut]
        to.graph.call(INT4_GATHER[bool(cut)], inputs, layer.node.output[0])

    def _stored_columns(self, layer: LayerValues, to: LayerWriter) -> tuple[list[str], list[str]]:
        """INT4 weights (groups, group, out), their multipliers and scales; how to cut padding."""
        quantized = _quantized(layer, to)
        values, multiplier = np.moveaxis(quantized.values, 0, -1), quantized.multiplier.T[:, None]
        stored = _tensors(layer, to, values, multiplier, quantized.scale)
        return stored, _cut(layer, to, quantized, ["zero"])

    def _block_product(self, layer: LayerValues, to: LayerWriter) -> None:
        """ONNX Runtime's weight-only INT4; accuracy level 4 rounds activations per group."""
        out, in_features = layer.weight.shape
        group = block_size(to.scheme)
        quantized = to.quantized(layer, BlockInt4Quantizer(group))
        inputs = [
            to.activations.reader(layer.node.input[0]),
            to.graph.tensor(f"{layer.name}.weight", quantized.packed),
            to.graph.tensor(f"{layer.name}.weight_scale", quantized.scale),
        ]
        sizes = {"K": in_features, "N": out, "bits": 4, "block_size": group, "accuracy_level": 4}
        to.graph.node(BLOCK_KERNEL, inputs, [to.product(layer)], domain=MICROSOFT, **sizes)


def _quantized(layer: LayerValues, to: LayerWriter) -> Int4Weight:
    return to.quantized(layer, Int4Quantizer(to.scheme.group_size, to.scheme.reduce_range))


def _tensors(
    layer: LayerValues, to: LayerWriter, values: Int8s, multiplier: Int8s, scale: Floats
) -> list[str]:
    return [
        to.graph.int4(f"{layer.name}.weight", values),
        to.graph.tensor(f"{layer.name}.weight_multiplier", multiplier),
        to.graph.tensor(f"{layer.name}.weight_scale", scale),
    ]


def _cut(
    layer: LayerValues, to: LayerWriter, weight: Int4Weight, constants: list[str]
) -> list[str]:
    """Inputs that cut the last group's padding off; none if the groups divide the input."""
    in_features = layer.matrix.shape[1]
    if weight.in_features == in_features:
        return []
    values = {"zero": 0, "one": 1}
    places = [to.graph.tensor(n, np.array([values[n]], np.int64)) for n in constants]
    end = to.graph.tensor(f"{layer.name}.in_features", np.array([in_features], np.int64))
    return [*places, end]


def block_size(scheme: QuantScheme) -> int:
    """The group size MatMulNBits is to use. Raises ValueError where there are no groups."""
    if scheme.group_size is None:
        raise ValueError(
            "quantization.group_size: matmulnbits needs groups, got null; take 32, or "
            "int4_kernel: w4a8"
        )
    return scheme.group_size


INT4 = _Int4()
