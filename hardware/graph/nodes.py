"""Nodes of a graph that is being rewritten: where they are from, what they read, who reads them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import onnx_ir as ir

SCOPES = "pkg.torch.onnx.name_scopes"


def scope(node: ir.Node) -> str:
    """Module path that produced the node, empty for the network itself."""
    if "scope" in node.metadata_props:
        return node.metadata_props["scope"]
    scopes = node.metadata_props.get(SCOPES, "['', '']")
    path = [entry.strip(" '\"") for entry in scopes.strip("[]").split(",")][-2]
    return "" if path.startswith("_") else path


def numbered_prefixes(path: str) -> Iterator[str]:
    """Module paths around a place, of modules that are called by a number."""
    parts = path.split(".")
    for length in range(1, len(parts) + 1):
        if parts[length - 1].isdigit():
            yield ".".join(parts[:length])


def replace(
    graph: ir.Graph,
    node: ir.Node,
    op_type: str,
    inputs: Sequence[ir.Value | None],
    attributes: Sequence[ir.Attr] = (),
    domain: str = "",
) -> None:
    """Put a new node where `node` was; its output keeps name, shape and type."""
    new = ir.Node(domain, op_type, inputs, attributes, metadata_props={"scope": scope(node)})
    old, result = node.outputs[0], new.outputs[0]
    result.name, result.shape, result.type = old.name, old.shape, old.type
    graph.insert_before(node, new)
    if old.is_graph_output():
        graph.outputs[graph.outputs.index(old)] = result
    ir.convenience.replace_all_uses_with(old, result)
    graph.remove(node, safe=True)


def constant_input(graph: ir.Graph, node: ir.Node, place: int, values: list[int]) -> None:
    """Let a node read whole numbers at this input."""
    tensor = ir.tensor(np.array(values, dtype=np.int64))
    constant = ir.Node("", "Constant", [], [ir.AttrTensor("value", tensor)])
    graph.insert_before(node, constant)
    node.replace_input_with(place, constant.outputs[0])


def integers(value: ir.Value | None) -> list[int] | None:
    """The numbers of a constant, None of what is none."""
    tensor = ir.convenience.get_const_tensor(value) if value is not None else None
    return None if tensor is None else [int(entry) for entry in tensor.numpy().ravel()]


def steps(node: ir.Node) -> list[int] | None:
    """Steps of a Slice, one where it names none."""
    return integers(node.inputs[4]) if len(node.inputs) > 4 else [1]


def perm(node: ir.Node) -> tuple[int, ...]:
    """The permutation of a Transpose."""
    return tuple(node.attributes.get_ints("perm", ()))


def only_user(value: ir.Value) -> ir.Node | None:
    """The node that alone reads a value."""
    users = {use.node for use in value.uses()}
    return users.pop() if len(users) == 1 and not value.is_graph_output() else None
