"""ONNX functions that a quantized layer is written with; ONNX Runtime inlines and fuses them.

One node per layer keeps files small (a digits ViT is 5 % smaller) and graphs readable.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx
from onnx import TensorProto
from onnx.helper import make_function, make_node, make_opsetid

from hardware.graph.template import DOMAIN

OPSET = 23

Nodes = list[onnx.NodeProto]


def _function(name: str, inputs: Sequence[str], nodes: Nodes) -> onnx.FunctionProto:
    return make_function(DOMAIN, name, inputs, ["y"], nodes, [make_opsetid("", OPSET)])


def _integer_product(weight: str) -> Nodes:
    """The pattern that becomes MatMulIntegerToFloat or DynamicQuantizeMatMul."""
    return [
        make_node("MatMulInteger", ["x", weight, "x_zero_point"], ["sums"]),
        make_node("Cast", ["sums"], ["wide"], to=TensorProto.FLOAT),
        make_node("Mul", ["x_scale", "weight_scale"], ["scale"]),
        make_node("Mul", ["wide", "scale"], ["y"]),
    ]


def _decode_int4() -> Nodes:
    """INT4 times its groups' multipliers, `grouped`; the product fits INT8."""
    return [
        make_node("Cast", ["weight"], ["values"], to=TensorProto.INT8),
        make_node("Mul", ["values", "multiplier"], ["grouped"]),
    ]


def _decode_columns(cut: bool, result: str = "w") -> Nodes:
    """(groups, group, out) -> INT8 (in, out); `cut` drops the last group's padding."""
    return [*_decode_int4(), *_flatten(2, "zero" if cut else None, result)]


def _decode_rows(cut: bool, result: str = "w") -> Nodes:
    """(out, groups, group) -> INT8 (out, in); `cut` drops the last group's padding."""
    return [*_decode_int4(), *_flatten(1, "one" if cut else None, result)]


def _flatten(axis: int, cut_axis: str | None, result: str) -> Nodes:
    """Join groups; `cut_axis` names the constant that tells which axis has padding to cut off."""
    if cut_axis is None:
        return [make_node("Flatten", ["grouped"], [result], axis=axis)]
    return [
        make_node("Flatten", ["grouped"], ["padded"], axis=axis),
        make_node("Slice", ["padded", "zero", "in_features", cut_axis], [result]),
    ]


def _decode_kernel(cut: bool) -> Nodes:
    """(out, groups, group) -> INT8 `w` in the shape of a convolution's weight."""
    reshape = make_node("Reshape", ["rows", "shape"], ["w"])
    return [*_decode_rows(cut, result="rows"), reshape]


def _look_up(table: str) -> Nodes:
    return [
        make_node("Gather", [table, "ids"], ["found"]),
        make_node("Cast", ["found"], ["wide"], to=TensorProto.FLOAT),
        make_node("Gather", ["weight_scale", "ids"], ["scales"]),
        make_node("Mul", ["wide", "scales"], ["y"]),
    ]


def _dequantize(axis: int) -> Nodes:
    return [make_node("DequantizeLinear", ["w", "weight_scale"], ["y"], axis=axis)]


_X = ("x", "x_scale", "x_zero_point")
_W = ("weight", "multiplier", "weight_scale")

INT8_MATMUL = _function("Int8MatMul", [*_X, "weight", "weight_scale"], _integer_product("weight"))
"""Product of quantized activations and INT8 weights (in, out)."""

INT4_MATMUL = (
    _function("Int4MatMul", [*_X, *_W], [*_decode_columns(cut=False), *_integer_product("w")]),
    _function(
        "Int4MatMulCut",
        [*_X, *_W, "zero", "in_features"],
        [*_decode_columns(cut=True), *_integer_product("w")],
    ),
)
"""The same with INT4 weights (groups, group, out); the second where padding has to be cut off."""

INT4_INTEGERS = (
    _function("Int4Integers", [*_W[:2]], _decode_columns(cut=False, result="y")),
    _function(
        "Int4IntegersCut", [*_W[:2], "zero", "in_features"], _decode_columns(cut=True, result="y")
    ),
)
"""INT4 weights of a linear layer as the INT8 operand of an integer product."""

INT4_COLUMNS = (
    _function("Int4Columns", [*_W], [*_decode_columns(cut=False), *_dequantize(axis=1)]),
    _function(
        "Int4ColumnsCut",
        [*_W, "zero", "in_features"],
        [*_decode_columns(cut=True), *_dequantize(axis=1)],
    ),
)
"""INT4 weights of a linear layer as the dequantized operand of a QDQ product."""

INT4_KERNEL = (
    _function("Int4Kernel", [*_W, "shape"], [*_decode_kernel(cut=False), *_dequantize(axis=0)]),
    _function(
        "Int4KernelCut",
        [*_W, "shape", "zero", "one", "in_features"],
        [*_decode_kernel(cut=True), *_dequantize(axis=0)],
    ),
)
"""INT4 weights of a convolution as the dequantized operand of a QDQ convolution."""

INT8_GATHER = _function("Int8Gather", ["ids", "weight", "weight_scale"], _look_up("weight"))
"""Rows of an INT8 table (vocabulary, width), scales (vocabulary, 1)."""

INT4_GATHER = (
    _function("Int4Gather", ["ids", *_W], [*_decode_rows(cut=False), *_look_up("w")]),
    _function(
        "Int4GatherCut",
        ["ids", *_W, "zero", "one", "in_features"],
        [*_decode_rows(cut=True), *_look_up("w")],
    ),
)
"""The same from INT4 rows (vocabulary, groups, group), which sessions decode when they load."""

FUNCTIONS = {
    function.name: function
    for function in (
        INT8_MATMUL,
        INT8_GATHER,
        *INT4_GATHER,
        *INT4_MATMUL,
        *INT4_INTEGERS,
        *INT4_COLUMNS,
        *INT4_KERNEL,
    )
}
