"""Attention of an exported graph as one node, whose heads are attributes."""

from __future__ import annotations

import onnx_ir as ir

from hardware.graph.lowering import SUMMAND
from hardware.graph.nodes import numbered_prefixes, only_user, perm, replace, scope


def attention(graph: ir.Graph) -> None:
    """Rewrite four-dimensional `Attention` to the 3-D form whose heads are attributes.

    The Reshape and Transpose nodes around it, and the head counts inside them, disappear.
    """
    masks: dict[tuple[ir.Value, object], ir.Value] = {}
    for node in tuple(graph):
        if node.op_type != "Attention" or node.domain != "":
            continue
        split = [_split_heads(value) for value in node.inputs[:3]]
        if any(entry is None for entry in split):
            raise ValueError(
                f"{scope(node)}: attention heads are not a plain reshape and transpose of the "
                "projections (batch, tokens, heads, head size); split with unflatten and transpose"
            )
        (query, heads), (key, kv_heads), (value, _) = [entry for entry in split if entry]
        merged = _merge_heads(node.outputs[0])
        if merged is None:
            raise ValueError(
                f"{scope(node)}: attention heads are not joined by transpose + flatten"
            )
        counts = {"q_num_heads": heads, "kv_num_heads": kv_heads}
        kept = {"scale": node.attributes["scale"]} if "scale" in node.attributes else {}
        if node.attributes.get_int("is_causal", 0):
            kept["is_causal"] = node.attributes["is_causal"]
        attributes = [*kept.values(), *(ir.AttrInt64(name, n) for name, n in counts.items())]
        mask = [_full_mask(graph, entry, query, masks) for entry in node.inputs[3:4] if entry]
        key, value = (_as_wide(graph, node, query, given) for given in (key, value))
        replace(graph, merged, "Attention", [query, key, value, *mask], attributes)


def _as_wide(graph: ir.Graph, node: ir.Node, query: ir.Value, given: ir.Value) -> ir.Value:
    """Keys or values of several kinds of tokens, of as many heads as the queries are.

    Each kind asks with heads of its own number; keys have as many as the most of them.
    """
    joined = given.producer()
    if joined is None or joined.op_type != "Concat":
        return given
    scopes = {"scope": scope(node)}
    begin, axis = (
        ir.Node("", "Constant", [], [ir.AttrInt64s("value_ints", [n])], metadata_props=scopes)
        for n in (0, 2)
    )
    sizes = [ir.AttrInt64("start", 2), ir.AttrInt64("end", 3)]
    width = ir.Node("", "Shape", [query], sizes, metadata_props=scopes)
    bounds = [begin.outputs[0], width.outputs[0], axis.outputs[0]]
    first = ir.Node("", "Slice", [given, *bounds], metadata_props=scopes)
    graph.insert_before(node, [begin, axis, width, first])
    first.outputs[0].shape, first.outputs[0].type = given.shape, given.type
    return first.outputs[0]


def _full_mask(
    graph: ir.Graph,
    mask: ir.Value,
    query: ir.Value,
    known: dict[tuple[ir.Value, object], ir.Value],
) -> ir.Value:
    """Give a (B, 1, 1, T) mask a row for every query, as ONNX Runtime insists; once for all alike.

    One of floats, which are added to the scores, gets a name that says so.
    """
    if mask.dtype == ir.DataType.FLOAT and not (mask.name or "").startswith(SUMMAND):
        mask.name = f"{SUMMAND}{mask.name}"
    if mask.shape is None or len(mask.shape) != 4 or mask.shape[2] != 1 or query.shape is None:
        return mask
    rows = query.shape[1]
    if rows == 1:
        return mask
    if (mask, rows) not in known:
        counted, axis = (mask, 3) if rows == mask.shape[3] else (_tokens(graph, rows), 1)
        bounds = [ir.AttrInt64("start", axis), ir.AttrInt64("end", axis + 1)]
        one = ir.Node("", "Constant", [], [ir.AttrInt64s("value_ints", [1])])
        tokens = ir.Node("", "Shape", [counted], bounds)
        sizes = [one.outputs[0], one.outputs[0], tokens.outputs[0], one.outputs[0]]
        shape = ir.Node("", "Concat", sizes, [ir.AttrInt64("axis", 0)])
        full = ir.Node("", "Expand", [mask, shape.outputs[0]])
        producer = mask.producer()
        assert producer is not None, "a mask of four dimensions is computed"
        graph.insert_after(producer, [one, tokens, shape, full])
        known[mask, rows] = full.outputs[0]
    return known[mask, rows]


def _tokens(graph: ir.Graph, count: object) -> ir.Value:
    """The first so many tokens (B, count, width) that are there whatever is dropped."""
    return next(
        value
        for node in graph
        for value in node.outputs
        if value.shape is not None and len(value.shape) == 3 and value.shape[1] == count
        if not any(numbered_prefixes(scope(node)))
    )


def _split_heads(value: ir.Value | None) -> tuple[ir.Value, int] | None:
    """Follow (B, N, T, H) back to the (B, T, N*H) it was split from, with N."""
    transpose = value.producer() if value is not None else None
    if transpose is None or transpose.op_type != "Transpose" or perm(transpose) != (0, 2, 1, 3):
        return None
    source = transpose.inputs[0]
    reshape = source.producer() if source is not None else None
    if reshape is None or reshape.op_type != "Reshape" or source is None or source.shape is None:
        return None
    joined, heads = reshape.inputs[0], source.shape[2]
    return (joined, heads) if joined is not None and isinstance(heads, int) else None


def _merge_heads(value: ir.Value) -> ir.Node | None:
    """The Reshape that ends (B, N, T, H) -> (B, T, N*H)."""
    transpose = only_user(value)
    if transpose is None or transpose.op_type != "Transpose" or perm(transpose) != (0, 2, 1, 3):
        return None
    reshape = only_user(transpose.outputs[0])
    return reshape if reshape is not None and reshape.op_type == "Reshape" else None
