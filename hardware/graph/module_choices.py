"""What candidates differ in: modules of choice, droppable modules, the tokens that are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from hardware.graph.first_tokens import FIRST_TOKENS, TOKENS
from hardware.graph.nodes import integers, numbered_prefixes, only_user, scope, steps
from hardware.graph.template import Alternative, within


def side_by_side(
    graph: ir.Graph, choices: Mapping[str, Sequence[str]]
) -> dict[str, dict[str, Alternative]]:
    """Take away the sums that hold modules of choice together; the last module's value stays.

    What the modules put out gets names of one length, so that every choice takes the same bytes
    wherever it is read.
    """
    found: dict[str, dict[str, Alternative]] = {}
    for path, names in choices.items():
        sums = [node for node in graph if scope(node) == path]
        assert len(sums) == len(names) - 1, f"{path}: one sum less than {list(names)}"
        result = sums[-1].outputs[0]
        values = [sums[0].inputs[0], *(node.inputs[1] for node in sums)]
        for number, value in enumerate(values):
            assert value is not None
            if within(_scope_of(value), path):
                value.name = f"{result.name}/{number}"
        own = values[-1]
        assert own is not None
        ir.convenience.replace_all_uses_with(result, own)
        for node in reversed(sums):
            graph.remove(node, safe=True)
        ends = [value.name or "" for value in values if value is not None]
        found[path] = {n: Alternative(v, ends[-1]) for n, v in zip(names, ends, strict=True)}
    return found


def _scope_of(value: ir.Value) -> str:
    """Module path that produced a value, empty for the network itself and its inputs."""
    producer = value.producer()
    return "" if producer is None else scope(producer)


def bypasses(graph: ir.Graph) -> dict[str, Alternative]:
    """Module paths ending in a number whose outputs have the shape of one input each: droppable
    blocks."""
    paths = {path for node in graph for path in numbered_prefixes(scope(node))}
    found = {path: _bypass(graph, path) for path in sorted(paths)}
    return {path: bypass for path, bypass in found.items() if bypass is not None}


def _bypass(graph: ir.Graph, path: str) -> Alternative | None:
    region = [node for node in graph if within(scope(node), path)]
    inside = set(region)
    outputs = [v for node in region for v in node.outputs if _leaves(v, inside)]
    inputs = {
        value
        for node in region
        for value in node.inputs
        if value is not None and value.producer() not in inside and not value.is_initializer()
    }
    pairs = [
        (source.name or "", output.name or "")
        for output in outputs
        for source in inputs
        if source.shape == output.shape
    ]
    if not len(outputs) == len({source for source, _ in pairs}) == len(pairs) > 0:
        return None
    return Alternative(*pairs[0], tuple(pairs[1:]))


def _leaves(value: ir.Value, inside: set[ir.Node]) -> bool:
    return value.is_graph_output() or any(user.node not in inside for user in value.uses())


def part_outputs(graph: ir.Graph) -> None:
    """Give every output that is read inside, too, a node of its own: its source may be left out."""
    for place, value in enumerate(graph.outputs):
        if value.uses():
            name, value.name = value.name, f"{value.name}/inside"
            node = ir.Node("", "Identity", [value], metadata_props={"scope": ""})
            own = node.outputs[0]
            own.name, own.type, own.shape = name, value.type, value.shape
            graph.append(node)
            graph.outputs[place] = own


def mark_read_tokens(graph: ir.Graph, found: Mapping[str, Alternative]) -> None:
    """Put a Gather of the first tokens behind the last droppable block if only they are read.

    See `hardware.graph.first_tokens`.
    """
    ends = {bypass.output for bypass in found.values()}
    for node in tuple(graph):
        x = node.inputs[0] if node.inputs else None
        if x is None or x.name not in ends or only_user(x) is not node:
            continue
        tokens = _read_tokens(node)
        if tokens:
            indices = ir.tensor(np.arange(tokens), name=FIRST_TOKENS)
            value = ir.Value(name=FIRST_TOKENS, const_value=indices)
            graph.register_initializer(value)
            axis, scopes = ir.AttrInt64("axis", TOKENS), {"scope": ""}
            mark = ir.Node("", "Gather", [x, value], [axis], metadata_props=scopes)
            graph.insert_before(node, mark)
            node.replace_input_with(0, mark.outputs[0])


def _read_tokens(node: ir.Node) -> int:
    """How many tokens a node selects if it selects the first ones, else 0."""
    if node.op_type == "Gather" and node.attributes.get_int("axis", 0) == TOKENS:
        return int(integers(node.inputs[1]) == [0])
    if node.op_type == "Slice" and len(node.inputs) > 3:
        starts, ends, axes = (integers(value) for value in node.inputs[1:4])
        if starts == [0] and axes == [TOKENS] and steps(node) == [1] and ends is not None:
            return max(0, ends[0])
    return 0
