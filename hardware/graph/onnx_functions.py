"""Parts of the ONNX functions that quantized layers are written with; ONNX Runtime inlines and
fuses them.

One node per layer keeps files small (a digits ViT is 5 % smaller) and graphs readable.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx
from onnx import TensorProto
from onnx.helper import make_function, make_node, make_opsetid

from hardware.graph.template import DOMAIN

OPSET = 23
OPERANDS = ("x", "x_scale", "x_zero_point")
"""Inputs of a function that takes a quantized activation."""

Nodes = list[onnx.NodeProto]


def function(name: str, inputs: Sequence[str], nodes: Nodes) -> onnx.FunctionProto:
    """A function of our domain that returns its value `y`."""
    return make_function(DOMAIN, name, inputs, ["y"], nodes, [make_opsetid("", OPSET)])


def integer_product(weight: str) -> Nodes:
    """The pattern that becomes MatMulIntegerToFloat or DynamicQuantizeMatMul."""
    return [
        make_node("MatMulInteger", ["x", weight, "x_zero_point"], ["sums"]),
        make_node("Cast", ["sums"], ["wide"], to=TensorProto.FLOAT),
        make_node("Mul", ["x_scale", "weight_scale"], ["scale"]),
        make_node("Mul", ["wide", "scale"], ["y"]),
    ]


def look_up(table: str) -> Nodes:
    """Rows of a table of integers, times their scales."""
    return [
        make_node("Gather", [table, "ids"], ["found"]),
        make_node("Cast", ["found"], ["wide"], to=TensorProto.FLOAT),
        make_node("Gather", ["weight_scale", "ids"], ["scales"]),
        make_node("Mul", ["wide", "scales"], ["y"]),
    ]
