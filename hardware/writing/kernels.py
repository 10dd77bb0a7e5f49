"""How a layer of each kind and precision is written into the graph."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx

from hardware.formats.precision import Precision, QuantScheme
from hardware.formats.quantize import Floats, Int4Weight, Int8s
from hardware.graph.graph_writer import GraphWriter
from hardware.graph.onnx_functions import (
    INT4_COLUMNS,
    INT4_GATHER,
    INT4_INTEGERS,
    INT4_KERNEL,
    INT4_MATMUL,
    INT8_GATHER,
    INT8_MATMUL,
)
from hardware.graph.template import LayerKind
from hardware.writing.static_activations import StaticActivations
from hardware.writing.weight_memo import WeightMemo

MICROSOFT = "com.microsoft"
SMALLEST_BLOCK = 16
"""Least group size of ONNX Runtime's block-quantized operators; all are powers of two."""


@dataclass(frozen=True)
class LayerValues:
    """One layer of a candidate: its template node and its parameters in the torch layout."""

    name: str
    kind: LayerKind
    node: onnx.NodeProto
    weight: Floats
    bias: Floats | None

    @property
    def matrix(self) -> Floats:
        """The weight as (out, everything that one output sums over)."""
        return self.weight.reshape(len(self.weight), -1)


@dataclass(frozen=True)
class LayerWriter:
    """Writes layers into one graph under one scheme."""

    graph: GraphWriter
    scheme: QuantScheme
    memo: WeightMemo
    activations: StaticActivations

    def write(self, layer: LayerValues, precision: Precision) -> None:
        """Append the layer's nodes and tensors. Raises ValueError if the format does not exist."""
        if precision == Precision.FP16:
            self._half(layer)
        elif layer.kind == "conv":
            self._convolution(layer, precision)
        elif layer.kind == "embedding":
            self._embedding(layer, precision)
        else:
            self._linear(layer, precision)

    def _half(self, layer: LayerValues) -> None:
        """FP16 weights and arithmetic between FP32 activations, for GPUs."""
        name, node, half = layer.name, layer.node, f"{layer.name}/float16"
        weight = self.graph.tensor(f"{name}.weight", layer.weight.astype(np.float16))
        bias = [] if layer.bias is None else [f"{name}.bias"]
        if layer.bias is not None:
            self.graph.tensor(bias[0], layer.bias.astype(np.float16))
        if layer.kind == "embedding":
            self.graph.node("Gather", [weight, node.input[1]], [half])
        elif layer.kind == "conv":
            x = self._half_activation(self.activations.reader(node.input[0]))
            self._copied(node, [x, weight, *bias], half)
        else:
            x = self._half_activation(self.activations.reader(node.input[0]))
            columns = self.graph.node("Transpose", [weight], [f"{name}/columns"], perm=[1, 0])
            product = f"{name}/product" if bias else half
            self.graph.node("MatMul", [x, columns], [product])
            if bias:
                self.graph.node("Add", [product, *bias], [half])
        self.graph.node("Cast", [half], node.output, to=onnx.TensorProto.FLOAT)

    def _half_activation(self, x: str) -> str:
        """Cast `x` once for all layers that read it."""
        name = f"{x}/float16"
        if not self.graph.knows(name):
            self.graph.node("Cast", [x], [name], to=onnx.TensorProto.FLOAT16)
        return name

    def _copied(self, node: onnx.NodeProto, inputs: list[str], output: str) -> None:
        """Append the template's node, its attributes kept, between other values."""
        written = onnx.NodeProto()
        written.CopyFrom(node)
        written.input[:], written.output[:] = inputs, [output]
        self.graph.copy(written)

    def _linear(self, layer: LayerValues, precision: Precision) -> None:
        output = layer.node.output[0]
        blocks = precision == Precision.INT4 and self.scheme.int4_kernel == "matmulnbits"
        if precision != Precision.FP32 and not blocks and self.scheme.linear == "static":
            self._static_linear(layer, precision)
            return
        product = output if layer.bias is None else f"{layer.name}/product"
        if precision == Precision.FP32:
            self._float_product(layer, product)
        elif blocks:
            self._block_product(layer, product)
        elif self.scheme.linear == "qdq":
            self._qdq_product(layer, precision, product)
        else:
            self._dynamic_product(layer, precision, product)
        if layer.bias is not None:
            bias = self.graph.tensor(f"{layer.name}.bias", layer.bias)
            self.graph.node("Add", [product, bias], [output])

    def _float_product(self, layer: LayerValues, product: str) -> None:
        """The weight keeps torch's layout; sessions fold the Transpose when they load."""
        weight = self.graph.tensor(f"{layer.name}.weight", layer.weight)
        columns = self.graph.node("Transpose", [weight], [f"{layer.name}/columns"], perm=[1, 0])
        x = self.activations.reader(layer.node.input[0])
        self.graph.node("MatMul", [x, columns], [product])

    def _dynamic_product(self, layer: LayerValues, precision: Precision, product: str) -> None:
        """Activations are quantized from their own range at run time, weights beforehand."""
        x = self._dynamic_activation(self.activations.reader(layer.node.input[0]))
        if precision == Precision.INT8:
            self.graph.call(INT8_MATMUL, [*x, *self._int8_columns(layer)], product)
        else:
            weight, cut = self._int4_columns(layer)
            self.graph.call(INT4_MATMUL[bool(cut)], [*x, *weight, *cut], product)

    def _static_linear(self, layer: LayerValues, precision: Precision) -> None:
        """One kernel with the bias inside. The QDQ form would do with unknown shapes only: with
        known ones ONNX Runtime 1.31 makes a floating Gemm of product and bias, 19 times slower."""
        x, x_scale, x_zero_point = self.activations.quantized(layer.node.input[0])
        if precision == Precision.INT8:
            weight, scale = self._int8_columns(layer)
        else:
            (values, multiplier, scale), cut = self._int4_columns(layer)
            decoded = f"{layer.name}/columns"
            weight = self.graph.call(INT4_INTEGERS[bool(cut)], [values, multiplier, *cut], decoded)
        bias = "" if layer.bias is None else self.graph.tensor(f"{layer.name}.bias", layer.bias)
        inputs = [x, weight, x_scale, scale, x_zero_point, "", bias]
        self.graph.node("MatMulIntegerToFloat", inputs, layer.node.output, domain=MICROSOFT)

    def _qdq_product(self, layer: LayerValues, precision: Precision, product: str) -> None:
        """QDQ: sessions fuse the two dequantized operands into an INT8 product."""
        x = self.activations.rounded(layer.node.input[0])
        columns = f"{layer.name}/columns"
        if precision == Precision.INT8:
            self.graph.node("DequantizeLinear", self._int8_columns(layer), [columns], axis=1)
        else:
            weight, cut = self._int4_columns(layer)
            self.graph.call(INT4_COLUMNS[bool(cut)], [*weight, *cut], columns)
        self.graph.node("MatMul", [x, columns], [product])

    def _block_product(self, layer: LayerValues, product: str) -> None:
        """ONNX Runtime's weight-only INT4; accuracy level 4 rounds activations per group."""
        out, in_features = layer.weight.shape
        group = block_size(self.scheme)
        quantized = self.memo.block_int4(layer.name, layer.weight, group)
        inputs = [
            self.activations.reader(layer.node.input[0]),
            self.graph.tensor(f"{layer.name}.weight", quantized.packed),
            self.graph.tensor(f"{layer.name}.weight_scale", quantized.scale),
        ]
        sizes = {"K": in_features, "N": out, "bits": 4, "block_size": group, "accuracy_level": 4}
        self.graph.node("MatMulNBits", inputs, [product], domain=MICROSOFT, **sizes)

    def _embedding(self, layer: LayerValues, precision: Precision) -> None:
        name, output, ids = layer.name, layer.node.output[0], layer.node.input[1]
        if precision == Precision.FP32:
            weight = self.graph.tensor(f"{name}.weight", layer.weight)
            self.graph.node("Gather", [weight, ids], [output])
        elif precision == Precision.INT8:
            quantized = self.memo.int8(name, layer.weight, self.scheme)
            weight = self.graph.tensor(f"{name}.weight", quantized.values)
            scale = self.graph.tensor(f"{name}.weight_scale", quantized.scale[:, None])
            self.graph.call(INT8_GATHER, [ids, weight, scale], output)
        else:
            int4 = self.memo.int4(name, layer.weight, self.scheme)
            stored = self._int4_tensors(layer, int4, int4.values, int4.multiplier[..., None])
            cut = self._cut(layer, int4, ["zero", "one"])
            self.graph.call(INT4_GATHER[bool(cut)], [ids, *stored, *cut], output)

    def _dynamic_activation(self, x: str) -> list[str]:
        """Quantize `x` once for all layers that read it (query, key and value)."""
        names = [f"{x}/uint8", f"{x}/scale", f"{x}/zero_point"]
        if not self.graph.knows(names[0]):
            self.graph.node("DynamicQuantizeLinear", [x], names)
        return names

    def _int8_columns(self, layer: LayerValues) -> list[str]:
        """INT8 weights (in, out) and a scale per output."""
        quantized = self.memo.int8(layer.name, layer.weight, self.scheme)
        weight = self.graph.tensor(f"{layer.name}.weight", quantized.values.T)
        return [weight, self.graph.tensor(f"{layer.name}.weight_scale", quantized.scale)]

    def _int4_columns(self, layer: LayerValues) -> tuple[list[str], list[str]]:
        """INT4 weights (groups, group, out), their multipliers and scales; how to cut padding."""
        quantized = self.memo.int4(layer.name, layer.weight, self.scheme)
        values = np.moveaxis(quantized.values, 0, -1)
        stored = self._int4_tensors(layer, quantized, values, quantized.multiplier.T[:, None])
        return stored, self._cut(layer, quantized, ["zero"])

    def _convolution(self, layer: LayerValues, precision: Precision) -> None:
        node, name = layer.node, layer.name
        if precision == Precision.FP32:
            x = self.activations.reader(node.input[0])
            weight = self.graph.tensor(f"{name}.weight", layer.weight)
        else:
            x = self.activations.rounded(node.input[0])
            weight = self._dequantized_kernel(layer, precision)
        bias = [] if layer.bias is None else [self.graph.tensor(f"{name}.bias", layer.bias)]
        self._copied(node, [x, weight, *bias], node.output[0])

    def _dequantized_kernel(self, layer: LayerValues, precision: Precision) -> str:
        """QDQ weights of a convolution, one scale per output channel."""
        output, name = f"{layer.name}/kernel", layer.name
        if precision == Precision.INT8:
            quantized = self.memo.int8(name, layer.matrix, self.scheme)
            values = quantized.values.reshape(layer.weight.shape)
            weight = self.graph.tensor(f"{name}.weight", values)
            scale = self.graph.tensor(f"{name}.weight_scale", quantized.scale)
            return self.graph.node("DequantizeLinear", [weight, scale], [output], axis=0)
        int4 = self.memo.int4(name, layer.matrix, self.scheme)
        stored = self._int4_tensors(layer, int4, int4.values, int4.multiplier[..., None])
        shape = self.graph.tensor(f"{name}.shape", np.array(layer.weight.shape, np.int64))
        cut = self._cut(layer, int4, ["zero", "one"])
        return self.graph.call(INT4_KERNEL[bool(cut)], [*stored, shape, *cut], output)

    def _int4_tensors(
        self, layer: LayerValues, weight: Int4Weight, values: Int8s, multiplier: Int8s
    ) -> list[str]:
        scale = weight.scale[:, None] if layer.kind == "embedding" else weight.scale
        return [
            self.graph.int4(f"{layer.name}.weight", values),
            self.graph.tensor(f"{layer.name}.weight_multiplier", multiplier),
            self.graph.tensor(f"{layer.name}.weight_scale", scale),
        ]

    def _cut(self, layer: LayerValues, weight: Int4Weight, constants: list[str]) -> list[str]:
        """Inputs that cut the last group's padding off; none if the groups divide the input."""
        in_features = layer.matrix.shape[1]
        if weight.in_features == in_features:
            return []
        values = {"zero": 0, "one": 1}
        places = [self.graph.tensor(n, np.array([values[n]], np.int64)) for n in constants]
        end = self.graph.tensor(f"{layer.name}.in_features", np.array([in_features], np.int64))
        return [*places, end]


def block_size(scheme: QuantScheme) -> int:
    """The group size MatMulNBits is to use. Raises ValueError for one it does not have."""
    group = scheme.group_size or 0
    if group < SMALLEST_BLOCK or group & (group - 1):
        raise ValueError(
            f"scheme.group_size: matmulnbits needs a power of two from {SMALLEST_BLOCK}, got "
            f"{scheme.group_size}; take 32, or int4_kernel: w4a8"
        )
    return group
