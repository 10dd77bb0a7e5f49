"""How a layer of each precision is written into the graph."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hardware.functions import INT4_MATMUL, INT4_MATMUL_CUT, INT8_MATMUL
from hardware.graph import GraphWriter
from hardware.memo import WeightMemo
from hardware.precision import Precision, QuantScheme
from hardware.quantize import Floats


@dataclass(frozen=True)
class LayerValues:
    """One layer of a candidate: its name, the values it connects, and its parameters."""

    name: str
    x: str
    output: str
    weight: Floats
    bias: Floats | None


def write_linear(
    graph: GraphWriter,
    layer: LayerValues,
    precision: Precision,
    scheme: QuantScheme,
    memo: WeightMemo,
) -> None:
    """Append a linear layer, x @ weight.T + bias, in the format that `precision` means."""
    product = layer.output if layer.bias is None else f"{layer.name}/product"
    if precision == Precision.FP32:
        _float_product(graph, layer, product)
    elif precision == Precision.INT8:
        _int8_product(graph, layer, product, memo)
    elif precision == Precision.INT4 and scheme.int4_kernel == "w4a8":
        _w4a8_product(graph, layer, product, memo, scheme.group_size)
    else:
        raise ValueError(
            f"{layer.name}: {precision} with {scheme} is not available for linear layers"
        )
    if layer.bias is not None:
        bias = graph.tensor(f"{layer.name}.bias", layer.bias)
        graph.node("Add", [product, bias], [layer.output])


def _float_product(graph: GraphWriter, layer: LayerValues, product: str) -> None:
    """The weight keeps torch's layout; sessions fold the Transpose when they load."""
    weight = graph.tensor(f"{layer.name}.weight", layer.weight)
    columns = graph.node("Transpose", [weight], [f"{layer.name}/columns"], perm=[1, 0])
    graph.node("MatMul", [layer.x, columns], [product])


def _int8_product(graph: GraphWriter, layer: LayerValues, product: str, memo: WeightMemo) -> None:
    """Weights INT8 (in, out) with a scale per output, activations quantized at run time."""
    quantized = memo.int8(layer.name, layer.weight)
    weight = graph.tensor(f"{layer.name}.weight", quantized.values.T)
    scale = graph.tensor(f"{layer.name}.weight_scale", quantized.scale)
    graph.call(INT8_MATMUL, [*dynamic_activation(graph, layer.x), weight, scale], product)


def _w4a8_product(
    graph: GraphWriter, layer: LayerValues, product: str, memo: WeightMemo, group: int | None
) -> None:
    """INT4 storage (groups, group, out) that sessions decode into the INT8 kernel's weights."""
    quantized, in_features = memo.int4(layer.name, layer.weight, group), layer.weight.shape[1]
    stored = [
        graph.int4(f"{layer.name}.weight", np.moveaxis(quantized.values, 0, -1)),
        graph.tensor(f"{layer.name}.weight_multiplier", quantized.multiplier.T[:, None]),
        graph.tensor(f"{layer.name}.weight_scale", quantized.scale),
    ]
    inputs = [*dynamic_activation(graph, layer.x), *stored]
    if quantized.in_features == in_features:
        graph.call(INT4_MATMUL, inputs, product)
    else:
        zero = graph.tensor("zero", np.array([0], np.int64))
        end = graph.tensor(f"{layer.name}.in_features", np.array([in_features], np.int64))
        graph.call(INT4_MATMUL_CUT, [*inputs, zero, end], product)


def dynamic_activation(graph: GraphWriter, x: str) -> list[str]:
    """Quantize `x` from its own range, once for all layers that read it (query, key, value)."""
    names = [f"{x}/uint8", f"{x}/scale", f"{x}/zero_point"]
    if not graph.knows(names[0]):
        graph.node("DynamicQuantizeLinear", [x], names)
    return names
