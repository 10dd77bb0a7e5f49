"""ONNX functions that a quantized layer is written with; ONNX Runtime inlines and fuses them.

One node per layer keeps files small (a digits ViT is 5 % smaller) and graphs readable.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx
from onnx import TensorProto
from onnx.helper import make_function, make_node, make_opsetid

from hardware.template import DOMAIN

OPSET = 23


def _function(
    name: str, inputs: Sequence[str], nodes: Sequence[onnx.NodeProto]
) -> onnx.FunctionProto:
    return make_function(DOMAIN, name, inputs, ["y"], nodes, [make_opsetid("", OPSET)])


def _decode_int4() -> list[onnx.NodeProto]:
    """INT4 (groups, group, out) times INT8 (groups, 1, out) -> INT8 `w` (groups * group, out)."""
    return [
        make_node("Cast", ["weight"], ["values"], to=TensorProto.FLOAT),
        make_node("Cast", ["multiplier"], ["factors"], to=TensorProto.FLOAT),
        make_node("Mul", ["values", "factors"], ["grouped"]),
        make_node("Flatten", ["grouped"], ["flat"], axis=2),
        make_node("Cast", ["flat"], ["w"], to=TensorProto.INT8),
    ]


def _integer_product(weight: str) -> list[onnx.NodeProto]:
    """The pattern that becomes MatMulIntegerToFloat or DynamicQuantizeMatMul."""
    return [
        make_node("MatMulInteger", ["x", weight, "x_zero_point"], ["sums"]),
        make_node("Cast", ["sums"], ["wide"], to=TensorProto.FLOAT),
        make_node("Mul", ["x_scale", "weight_scale"], ["scale"]),
        make_node("Mul", ["wide", "scale"], ["y"]),
    ]


_X = ("x", "x_scale", "x_zero_point")

INT8_MATMUL = _function(
    "Int8MatMul", [*_X, "weight", "weight_scale"], _integer_product(weight="weight")
)
INT4_MATMUL = _function(
    "Int4MatMul",
    [*_X, "weight", "multiplier", "weight_scale"],
    [*_decode_int4(), *_integer_product(weight="w")],
)
INT4_MATMUL_CUT = _function(
    "Int4MatMulCut",
    [*_X, "weight", "multiplier", "weight_scale", "zero", "in_features"],
    [
        *_decode_int4(),
        make_node("Slice", ["w", "zero", "in_features", "zero"], ["cut"]),
        *_integer_product(weight="cut"),
    ],
)
"""`Int4MatMul` for an input size that the group size does not divide."""

FUNCTIONS = {function.name: function for function in (INT8_MATMUL, INT4_MATMUL, INT4_MATMUL_CUT)}
