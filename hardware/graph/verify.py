"""Reading a written graph back: which format every layer really has, and whether it was asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod

import onnx
from onnx import TensorProto
from onnx.helper import make_tensor_value_info
from onnx.inliner import inline_local_functions

from hardware.formats.precision import Precision, QuantPolicy
from hardware.graph.model_file import SMALL_BYTES, without_tensors

STORED: dict[int, Precision] = {
    TensorProto.FLOAT: Precision.FP32,
    TensorProto.FLOAT16: Precision.FP16,
    TensorProto.INT8: Precision.INT8,
    TensorProto.INT4: Precision.INT4,
}
LOOKUPS = {"Gather": 0}
PRODUCTS = {
    "MatMul": 1,
    "MatMulInteger": 1,
    "MatMulIntegerToFloat": 1,
    "MatMulNBits": 1,
    "Conv": 1,
    "Gemm": 1,
}
BITS = {
    TensorProto.FLOAT: 32,
    TensorProto.FLOAT16: 16,
    TensorProto.INT64: 64,
    TensorProto.INT32: 32,
    TensorProto.INT4: 4,
}
COMPUTE = {**LOOKUPS, **PRODUCTS}
"""Operators that consume a layer's weight, and at which input."""
WEIGHT_OPS = {"Cast", "Mul", "Flatten", "Reshape", "Slice", "Transpose", "DequantizeLinear"}
"""Operators that may lie between a stored weight and the operator that consumes it."""


class PolicyError(ValueError):
    """A written graph does not hold the policy it was written for."""


@dataclass(frozen=True)
class LayerFormat:
    """What the file holds of one layer: stored precision, integer arithmetic or not, bytes."""

    name: str
    precision: Precision
    integer_compute: bool
    weight_bytes: float
    operator: str


@dataclass(frozen=True)
class Coverage:
    """How much of a network is in low precision."""

    layers: int
    low_precision_layers: int
    weight_bytes_fp32: float
    low_precision_bytes_fp32: float
    counts: Mapping[str, int]

    def __str__(self) -> str:
        share = self.low_precision_bytes_fp32 / max(self.weight_bytes_fp32, 1)
        return (
            f"{self.low_precision_layers} of {self.layers} layers in low precision, "
            f"{share:.0%} of their FP32 weight bytes"
        )


def read_formats(model: onnx.ModelProto) -> dict[str, LayerFormat]:
    """Layer name -> its real format, from the tensors and operators alone, in execution order."""
    graph = inline_local_functions(_without_data(model)).graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    producers = {output: node for node in graph.node for output in node.output}
    formats = {}
    for node in graph.node:
        if node.op_type not in COMPUTE:
            continue
        sources = list(_weight_sources(node.input[COMPUTE[node.op_type]], tensors, producers))
        weight = next((tensor for tensor in sources if tensor.name.endswith(".weight")), None)
        if weight is not None:
            name = weight.name.removesuffix(".weight")
            formats[name] = _format(name, node, weight, producers)
    return formats


def _format(
    name: str, node: onnx.NodeProto, weight: TensorProto, producers: Mapping[str, onnx.NodeProto]
) -> LayerFormat:
    if node.op_type == "MatMulNBits":
        precision = Precision.INT4
    elif weight.data_type in STORED:
        precision = STORED[weight.data_type]
    else:
        kind = TensorProto.DataType.Name(weight.data_type)
        raise PolicyError(f"{name}: weights stored as {kind}, allowed are {list(STORED.values())}")
    weight_bytes = prod(weight.dims) * (8 if node.op_type == "MatMulNBits" else precision.bits) / 8
    return LayerFormat(name, precision, _is_integer(node, producers), weight_bytes, node.op_type)


def _is_integer(node: onnx.NodeProto, producers: Mapping[str, onnx.NodeProto]) -> bool:
    """MatMulInteger, or the QDQ form: both operands of a float operator dequantized."""
    if node.op_type.startswith("MatMulInteger") or node.op_type == "MatMulNBits":
        return True
    makers = [producers.get(name) for name in node.input[:2]]
    return all(maker is not None and maker.op_type == "DequantizeLinear" for maker in makers)


def _weight_sources(
    value: str, tensors: Mapping[str, TensorProto], producers: Mapping[str, onnx.NodeProto]
) -> Iterator[TensorProto]:
    """Initializers from which a weight is decoded, nothing if it depends on an activation."""
    if value in tensors:
        yield tensors[value]
    elif value in producers and producers[value].op_type in WEIGHT_OPS:
        for name in producers[value].input:
            yield from _weight_sources(name, tensors, producers)


def _without_data(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with empty tensors: nodes, names, types and shapes are all that is read."""
    shell = without_tensors(model)
    for tensor in model.graph.initializer:
        shell.graph.initializer.add(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
    return shell


def check(model: onnx.ModelProto) -> None:
    """Run ONNX's full checker, shape inference included, at a cost that no weight adds to.

    Large tensors take part by type and shape, and their bytes are counted here.
    Raises onnx.checker.ValidationError or onnx.shape_inference.InferenceError.
    """
    shell = without_tensors(model)
    for tensor in model.graph.initializer:
        external = tensor.data_location == TensorProto.EXTERNAL
        expected = -(-prod(tensor.dims) * BITS.get(tensor.data_type, 8) // 8)
        if not external and tensor.ByteSize() < SMALL_BYTES:
            shell.graph.initializer.append(tensor)
        elif external or len(tensor.raw_data) == expected:
            shape = list(tensor.dims)
            shell.graph.input.append(make_tensor_value_info(tensor.name, tensor.data_type, shape))
        else:
            raise onnx.checker.ValidationError(
                f"{tensor.name}: {len(tensor.raw_data)} bytes stored, its shape needs {expected}"
            )
    onnx.checker.check_model(shell, full_check=True)


def read_policy(model: onnx.ModelProto) -> QuantPolicy:
    """The precision every layer of a written graph has."""
    return QuantPolicy({name: entry.precision for name, entry in read_formats(model).items()})


def verify(model: onnx.ModelProto, policy: QuantPolicy) -> Coverage:
    """Check a written graph, and compare it with the policy, layer by layer; layers not named
    must be FP32.

    Raises PolicyError naming every layer that is missing, has another precision, or is stored in
    low precision but computed in float.
    """
    check(model)
    formats = read_formats(model)
    asked_of = {**dict.fromkeys(formats, Precision.FP32), **policy}
    wrong = [
        f"{name}: asked {asked}, found {_found(formats.get(name))}"
        for name, asked in asked_of.items()
        if not _holds(formats.get(name), asked)
    ]
    if wrong:
        raise PolicyError("written graph differs from its policy:\n  " + "\n  ".join(sorted(wrong)))
    return _coverage(formats)


def _holds(entry: LayerFormat | None, asked: Precision) -> bool:
    if entry is None or entry.precision != asked:
        return False
    quantized = asked in (Precision.INT8, Precision.INT4)
    return not quantized or entry.integer_compute or entry.operator in LOOKUPS


def _found(entry: LayerFormat | None) -> str:
    if entry is None:
        return "no such layer"
    return (
        f"{entry.precision} ({entry.operator}, {'integer' if entry.integer_compute else 'float'})"
    )


def _coverage(formats: Mapping[str, LayerFormat]) -> Coverage:
    weights = {name: 8 * f.weight_bytes / f.precision.bits * 4 for name, f in formats.items()}
    low = [name for name, f in formats.items() if f.precision in (Precision.INT8, Precision.INT4)]
    return Coverage(
        layers=len(formats),
        low_precision_layers=len(low),
        weight_bytes_fp32=sum(weights.values()),
        low_precision_bytes_fp32=sum(weights[name] for name in low),
        counts=dict(Counter(entry.precision.value for entry in formats.values())),
    )
