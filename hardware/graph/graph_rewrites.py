"""Rewrites that make an exported graph sliceable: one node per layer, no size in a constant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx_ir as ir

from hardware.graph.nodes import constant_input, integers, only_user, perm, replace, scope, steps
from hardware.graph.template import DOMAIN


def linears(graph: ir.Graph) -> None:
    """Turn MatMul by a transposed parameter, and Gemm, into one `Linear` node each."""
    for node in tuple(graph):
        if node.op_type == "MatMul":
            weight = _transposed_parameter(node.inputs[1])
            if weight is not None:
                _linear(graph, node, weight)
        elif node.op_type == "Gemm" and _is_linear_gemm(node):
            replace(graph, node, "Linear", node.inputs, domain=DOMAIN)


def _linear(graph: ir.Graph, matmul: ir.Node, weight: ir.Value) -> None:
    last, inputs = matmul, [matmul.inputs[0], weight]
    add = only_user(matmul.outputs[0])
    if add is not None and add.op_type == "Add":
        bias = next(value for value in add.inputs if value is not matmul.outputs[0])
        if bias is not None and bias.is_initializer() and bias.name == _bias_of(weight):
            last, inputs = add, [*inputs, bias]
    replace(graph, last, "Linear", inputs, domain=DOMAIN)


def _is_linear_gemm(node: ir.Node) -> bool:
    plain = all(node.attributes.get_float(name, 1.0) == 1.0 for name in ("alpha", "beta"))
    weight = node.inputs[1]
    return (
        plain
        and weight is not None
        and weight.is_initializer()
        and node.attributes.get_int("transB", 0) == 1
        and node.attributes.get_int("transA", 0) == 0
    )


def _transposed_parameter(value: ir.Value | None) -> ir.Value | None:
    node = value.producer() if value is not None else None
    if node is None or node.op_type != "Transpose" or perm(node) != (1, 0):
        return None
    source = node.inputs[0]
    return source if source is not None and source.is_initializer() else None


def _bias_of(weight: ir.Value) -> str:
    return f"{(weight.name or '').removesuffix('weight')}bias"


def shapes(graph: ir.Graph) -> None:
    """Replace computed shapes of Reshape and Expand by constants that survive slicing.

    A dimension that stays in its place becomes 0 (Reshape) or 1 (Expand), one other unknown -1.
    Further unknowns of a Reshape stay computed.
    """
    for node in tuple(graph):
        if node.op_type == "Reshape":
            target = _reshape_target(node.inputs[0], node.outputs[0])
            if target is not None:
                constant_input(graph, node, 1, target)
            else:
                _slim_reshape(graph, node)
            node.attributes.pop("allowzero", None)
        elif node.op_type == "Expand":
            _slim_expand(graph, node)


def _reshape_target(source: ir.Value | None, result: ir.Value) -> list[int] | None:
    if source is None or source.shape is None or result.shape is None:
        return None
    before: Sequence[object] = list(source.shape)
    target = []
    for place, size in enumerate(result.shape):
        same = place < len(before) and before[place] == size
        target.append(0 if same else size if isinstance(size, int) else -1)
    unmatched = [place for place, size in enumerate(target) if size != 0]
    if unmatched and -1 not in target:
        target[unmatched[0]] = -1
    return target if target.count(-1) <= 1 else None


def _slim_reshape(graph: ir.Graph, node: ir.Node) -> None:
    """Copy the axes that stay in their place, so that no width stays in the shape's Concat."""
    source, shape, result = node.inputs[0], node.inputs[1], node.outputs[0].shape
    concat = shape.producer() if shape is not None else None
    if source is None or source.shape is None or concat is None or concat.op_type != "Concat":
        return
    if result is None or len(concat.inputs) != len(result):
        return
    for place, (before, after) in enumerate(zip(source.shape, result, strict=False)):
        if before == after:
            constant_input(graph, concat, place, [0])


def _slim_expand(graph: ir.Graph, node: ir.Node) -> None:
    """Expand only the axes that grow, so that no width stays in the shape's Concat."""
    source, shape = node.inputs[0], node.inputs[1]
    concat = shape.producer() if shape is not None else None
    if source is None or source.shape is None or concat is None or concat.op_type != "Concat":
        return
    result = node.outputs[0].shape
    if result is None or len(concat.inputs) != len(result) or len(source.shape) != len(result):
        return
    for place, (before, after) in enumerate(zip(source.shape, result, strict=True)):
        if before == after and isinstance(after, int):
            constant_input(graph, concat, place, [1])


def pooling(graph: ir.Graph) -> None:
    """Turn means over height and width into global pooling, which every opset has and which
    kernels for blocks of channels and for integers know."""
    for node in tuple(graph):
        x = node.inputs[0] if node.op_type == "ReduceMean" else None
        if x is None or x.shape is None or len(x.shape) != 4 or len(node.inputs) < 2:
            continue
        axes = integers(node.inputs[1])
        if axes is None or {axis % 4 for axis in axes} != {2, 3}:
            continue
        if node.attributes.get_int("keepdims", 1):
            replace(graph, node, "GlobalAveragePool", [x])
        else:
            scopes = {"scope": scope(node)}
            pooled = ir.Node("", "GlobalAveragePool", [x], metadata_props=scopes)
            graph.insert_before(node, pooled)
            replace(graph, node, "Flatten", pooled.outputs, [ir.AttrInt64("axis", 1)])


def convolutions(graph: ir.Graph, parameters: Mapping[str, object]) -> None:
    """Take the zeros that are added around an image into the convolution that alone reads it, and
    drop the zero bias that the exporter gives to convolutions without one."""
    for node in tuple(graph):
        if node.op_type == "Conv":
            _absorb_padding(graph, node)
        if node.op_type == "Conv" and len(node.inputs) > 2:
            bias = node.inputs[2]
            if bias is None or bias.name in parameters:
                continue
            values = ir.convenience.get_const_tensor(bias)
            if values is not None and not values.numpy().any():
                node.resize_inputs(2)


def _absorb_padding(graph: ir.Graph, conv: ir.Node) -> None:
    """Kernels pad by different numbers on both sides, torch's convolutions cannot say so."""
    pad = conv.inputs[0].producer() if conv.inputs[0] is not None else None
    if pad is None or pad.op_type != "Pad" or only_user(pad.outputs[0]) is not conv:
        return
    pads = integers(pad.inputs[1])
    given = pad.inputs[2] if len(pad.inputs) > 2 else None
    value = ir.convenience.get_const_tensor(given) if given is not None else None
    zeros = given is None or (value is not None and not value.numpy().any())
    constant = pad.attributes.get_string("mode", "constant") == "constant"
    if pads is None or len(pads) != 8 or min(pads) < 0 or not zeros or not constant:
        return
    around = [*pads[2:4], *pads[6:]]
    if sum(around) < sum(pads):
        return
    own = conv.attributes.get_ints("pads", [0] * 4)
    conv.attributes["pads"] = ir.AttrInt64s(
        "pads", [a + b for a, b in zip(own, around, strict=True)]
    )
    conv.replace_input_with(0, pad.inputs[0])
    graph.remove(pad, safe=True)


def slices(graph: ir.Graph) -> None:
    """Remove slices that keep everything (start 0, step 1, open end)."""
    for node in tuple(graph):
        if node.op_type == "Slice" and _keeps_everything(node):
            source = node.inputs[0]
            assert source is not None
            ir.convenience.replace_all_uses_with(node.outputs[0], source)
            graph.remove(node, safe=True)


def _keeps_everything(node: ir.Node) -> bool:
    start, end = integers(node.inputs[1]), integers(node.inputs[2])
    step = steps(node)
    if start is None or end is None or step is None:
        return False
    return set(start) == {0} and set(step) == {1} and min(end) >= 2**31 - 1
