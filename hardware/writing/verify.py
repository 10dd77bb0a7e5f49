"""Reading a written graph back: which format every layer really has, and whether it was asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import onnx
from onnx import TensorProto
from onnx.helper import make_tensor_value_info

from hardware.formats.format import Format, StoredLayer
from hardware.formats.fp32 import FP32
from hardware.formats.policy import QuantPolicy
from hardware.formats.registry import ordered
from hardware.graph.model_file import SMALL_BYTES, without_tensors

LOOKUPS = {"Gather": 0}
PRODUCTS = {
    "MatMul": 1,
    "MatMulInteger": 1,
    "MatMulIntegerToFloat": 1,
    "MatMulNBits": 1,
    "Conv": 1,
    "Gemm": 1,
}
BITS: dict[int, int] = {
    TensorProto.FLOAT: 32,
    TensorProto.FLOAT16: 16,
    TensorProto.INT64: 64,
    TensorProto.INT32: 32,
    TensorProto.INT4: 4,
}
COMPUTE = {**LOOKUPS, **PRODUCTS}
"""Operators that consume a layer's weight, and at which input."""


class PolicyError(ValueError):
    """A written graph does not hold the policy it was written for."""


@dataclass(frozen=True)
class Coverage:
    """How much of a network is in low precision."""

    layers: int
    low_precision_layers: int
    weight_bytes_fp32: float
    low_precision_bytes_fp32: float

    def __str__(self) -> str:
        share = self.low_precision_bytes_fp32 / max(self.weight_bytes_fp32, 1)
        return (
            f"{self.low_precision_layers} of {self.layers} layers in low precision, "
            f"{share:.0%} of their FP32 weight bytes"
        )


def read_layers(model: onnx.ModelProto) -> dict[str, StoredLayer]:
    """Layer name -> how it is stored and computed, from the tensors and operators alone, in
    execution order."""
    graph = _without_data(model).graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    producers = {output: node for node in graph.node for output in node.output}
    sources = _constants_behind(graph)
    decoders = {entry.decoder for entry in ordered()}
    found = {}
    for node in graph.node:
        if node.op_type not in COMPUTE:
            continue
        behind = sources.get(node.input[COMPUTE[node.op_type]], ())
        weights = [tensors[name] for name in behind if name.endswith(".weight")]
        if len(weights) == 1:  # of more, an operand is what layers put out that no input changes
            (weight,) = weights
            found[weight.name.removesuffix(".weight")] = StoredLayer(
                weight.data_type,
                prod(weight.dims) * BITS.get(weight.data_type, 8),
                node.op_type,
                _is_integer(node, producers),
                node.op_type in LOOKUPS,
                next((name for name in behind if name in decoders), None),
                node.output[0] in sources,
            )
    return found


def format_of(name: str, stored: StoredLayer) -> Format:
    """The smallest format that a layer has. Raises PolicyError if it has none."""
    for entry in ordered():
        if entry.reads_back(stored):
            return entry
    raise PolicyError(f"{name}: stored and computed as no format: {_described(stored)}")


def _is_integer(node: onnx.NodeProto, producers: Mapping[str, onnx.NodeProto]) -> bool:
    """MatMulInteger, or the QDQ form: both operands of a float operator dequantized."""
    if node.op_type.startswith("MatMulInteger") or node.op_type == "MatMulNBits":
        return True
    makers = [producers.get(name) for name in node.input[:2]]
    return all(maker is not None and maker.op_type == "DequantizeLinear" for maker in makers)


def _constants_behind(graph: onnx.GraphProto) -> dict[str, tuple[str, ...]]:
    """Names of the initializers that a value is computed from, for values that are constant."""
    found: dict[str, tuple[str, ...]] = {t.name: (t.name,) for t in graph.initializer}
    for node in graph.node:
        inputs = [name for name in node.input if name]
        if inputs and all(name in found for name in inputs):
            behind = tuple(dict.fromkeys(source for name in inputs for source in found[name]))
            found.update(dict.fromkeys(node.output, behind))
    return found


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
    """The format every layer of a written graph has. Raises PolicyError if one has none."""
    return QuantPolicy({name: format_of(name, x) for name, x in read_layers(model).items()})


def verify(model: onnx.ModelProto, policy: QuantPolicy) -> Coverage:
    """Check a written graph, and compare it with the policy, layer by layer; layers not named
    must be FP32.

    Raises PolicyError naming every layer that is missing, is stored otherwise than its format says,
    or is stored for integer arithmetic but computed in float.
    """
    check(model)
    layers = read_layers(model)
    asked = {**dict.fromkeys(layers, FP32), **policy}
    wrong = [
        f"{name}: asked {entry}, found {_described(layers.get(name))}"
        for name, entry in asked.items()
        if name not in layers or not entry.reads_back(layers[name])
    ]
    if wrong:
        raise PolicyError("written graph differs from its policy:\n  " + "\n  ".join(sorted(wrong)))
    return _coverage(layers, asked)


def _described(stored: StoredLayer | None) -> str:
    if stored is None:
        return "no such layer"
    kind = onnx.TensorProto.DataType.Name(stored.data_type).lower()
    return f"{kind} ({stored.operator}, {'integer' if stored.integer else 'float'})"


def _coverage(layers: Mapping[str, StoredLayer], formats: Mapping[str, Format]) -> Coverage:
    weights = {name: x.stored_bits / formats[name].bits * 4 for name, x in layers.items()}
    low = [name for name in layers if formats[name].bits < FP32.bits]
    return Coverage(
        layers=len(layers),
        low_precision_layers=len(low),
        weight_bytes_fp32=sum(weights.values()),
        low_precision_bytes_fp32=sum(weights[name] for name in low),
    )
