"""Patterns of operators that quantized layers are written with, which sessions fuse to kernels."""

from __future__ import annotations

from collections.abc import Sequence

import onnx
from onnx import TensorProto
from onnx.helper import make_function, make_node

OPERANDS = ("x", "x_scale", "x_zero_point")
"""Inputs of a pattern that takes a quantized activation."""

Nodes = list[onnx.NodeProto]


def pattern(name: str, inputs: Sequence[str], nodes: Nodes) -> onnx.FunctionProto:
    """Nodes between named inputs and the output `y`; `GraphWriter.expand` writes them."""
    written = [value for node in nodes for value in node.output]
    assert len({*written, *inputs}) == len(written) + len(inputs), "every value has one source"
    return make_function("", name, inputs, ["y"], nodes, [])


def integer_product(weight: str) -> Nodes:
    """The pattern that becomes MatMulIntegerToFloat or DynamicQuantizeMatMul."""
    return [
        make_node("MatMulInteger", ["x", weight, "x_zero_point"], ["sums"]),
        make_node("Cast", ["sums"], ["wide"], to=TensorProto.FLOAT),
        make_node("Mul", ["x_scale", "scale"], ["both_scales"]),
        make_node("Mul", ["wide", "both_scales"], ["y"]),
    ]


def look_up(table: str) -> Nodes:
    """Rows of a table of integers, times their scales."""
    return [
        make_node("Gather", [table, "ids"], ["found"]),
        make_node("Cast", ["found"], ["wide"], to=TensorProto.FLOAT),
        make_node("Gather", ["scale", "ids"], ["scales"]),
        make_node("Mul", ["wide", "scales"], ["y"]),
    ]
