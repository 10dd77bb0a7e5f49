"""Rewrites that make an exported graph sliceable: one node per layer, no size in a constant."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from hardware.graph.first_tokens import FIRST_TOKENS, TOKENS
from hardware.graph.lowering import SUMMAND
from hardware.graph.template import DOMAIN, Alternative, within

SCOPES = "pkg.torch.onnx.name_scopes"


def scope(node: ir.Node) -> str:
    """Module path that produced the node, empty for the network itself."""
    if "scope" in node.metadata_props:
        return node.metadata_props["scope"]
    scopes = node.metadata_props.get(SCOPES, "['', '']")
    path = [entry.strip(" '\"") for entry in scopes.strip("[]").split(",")][-2]
    return "" if path.startswith("_") else path


def linears(graph: ir.Graph) -> None:
    """Turn MatMul by a transposed parameter, and Gemm, into one `Linear` node each."""
    for node in tuple(graph):
        if node.op_type == "MatMul":
            weight = _transposed_parameter(node.inputs[1])
            if weight is not None:
                _linear(graph, node, weight)
        elif node.op_type == "Gemm" and _is_linear_gemm(node):
            _replace(graph, node, "Linear", node.inputs, domain=DOMAIN)


def _linear(graph: ir.Graph, matmul: ir.Node, weight: ir.Value) -> None:
    last, inputs = matmul, [matmul.inputs[0], weight]
    add = _only_user(matmul.outputs[0])
    if add is not None and add.op_type == "Add":
        bias = next(value for value in add.inputs if value is not matmul.outputs[0])
        if bias is not None and bias.is_initializer() and bias.name == _sibling(weight, "bias"):
            last, inputs = add, [*inputs, bias]
    _replace(graph, last, "Linear", inputs, domain=DOMAIN)


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
    if node is None or node.op_type != "Transpose" or _perm(node) != (1, 0):
        return None
    source = node.inputs[0]
    return source if source is not None and source.is_initializer() else None


def _sibling(weight: ir.Value, name: str) -> str:
    assert weight.name is not None
    return weight.name.removesuffix("weight") + name


def shapes(graph: ir.Graph) -> None:
    """Replace computed shapes of Reshape and Expand by constants that survive slicing.

    A dimension that stays in its place becomes 0 (Reshape) or 1 (Expand), one other unknown -1.
    Further unknowns of a Reshape stay computed.
    """
    for node in tuple(graph):
        if node.op_type == "Reshape":
            target = _reshape_target(node.inputs[0], node.outputs[0])
            if target is not None:
                _constant_input(graph, node, 1, target)
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
            _constant_input(graph, concat, place, [0])


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
            _constant_input(graph, concat, place, [1])


def pooling(graph: ir.Graph) -> None:
    """Turn means over height and width into global pooling, which every opset has and which
    kernels for blocks of channels and for integers know."""
    for node in tuple(graph):
        x = node.inputs[0] if node.op_type == "ReduceMean" else None
        if x is None or x.shape is None or len(x.shape) != 4 or len(node.inputs) < 2:
            continue
        axes = _integers(node.inputs[1])
        if axes is None or {axis % 4 for axis in axes} != {2, 3}:
            continue
        if node.attributes.get_int("keepdims", 1):
            _replace(graph, node, "GlobalAveragePool", [x])
        else:
            scopes = {"scope": scope(node)}
            pooled = ir.Node("", "GlobalAveragePool", [x], metadata_props=scopes)
            graph.insert_before(node, pooled)
            _replace(graph, node, "Flatten", pooled.outputs, [ir.AttrInt64("axis", 1)])


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
    if pad is None or pad.op_type != "Pad" or _only_user(pad.outputs[0]) is not conv:
        return
    pads = _integers(pad.inputs[1])
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
    start, end = _integers(node.inputs[1]), _integers(node.inputs[2])
    step = _steps(node)
    if start is None or end is None or step is None:
        return False
    return set(start) == {0} and set(step) == {1} and min(end) >= 2**31 - 1


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
        _replace(graph, merged, "Attention", [query, key, value, *mask], attributes)


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
        if not any(_numbered_prefixes(scope(node)))
    )


def _split_heads(value: ir.Value | None) -> tuple[ir.Value, int] | None:
    """Follow (B, N, T, H) back to the (B, T, N*H) it was split from, with N."""
    transpose = value.producer() if value is not None else None
    if transpose is None or transpose.op_type != "Transpose" or _perm(transpose) != (0, 2, 1, 3):
        return None
    source = transpose.inputs[0]
    reshape = source.producer() if source is not None else None
    if reshape is None or reshape.op_type != "Reshape" or source is None or source.shape is None:
        return None
    joined, heads = reshape.inputs[0], source.shape[2]
    return (joined, heads) if joined is not None and isinstance(heads, int) else None


def _merge_heads(value: ir.Value) -> ir.Node | None:
    """The Reshape that ends (B, N, T, H) -> (B, T, N*H)."""
    transpose = _only_user(value)
    if transpose is None or transpose.op_type != "Transpose" or _perm(transpose) != (0, 2, 1, 3):
        return None
    reshape = _only_user(transpose.outputs[0])
    return reshape if reshape is not None and reshape.op_type == "Reshape" else None


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
    paths = {path for node in graph for path in _numbered_prefixes(scope(node))}
    found = {path: _bypass(graph, path) for path in sorted(paths)}
    return {path: bypass for path, bypass in found.items() if bypass is not None}


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

    See `hardware.first_tokens`.
    """
    ends = {bypass.output for bypass in found.values()}
    for node in tuple(graph):
        x = node.inputs[0] if node.inputs else None
        if x is None or x.name not in ends or _only_user(x) is not node:
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
        return int(_integers(node.inputs[1]) == [0])
    if node.op_type == "Slice" and len(node.inputs) > 3:
        starts, ends, axes = (_integers(value) for value in node.inputs[1:4])
        if starts == [0] and axes == [TOKENS] and _steps(node) == [1] and ends is not None:
            return max(0, ends[0])
    return 0


def _numbered_prefixes(path: str) -> Iterator[str]:
    parts = path.split(".")
    for length in range(1, len(parts) + 1):
        if parts[length - 1].isdigit():
            yield ".".join(parts[:length])


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


def _replace(
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


def _constant_input(graph: ir.Graph, node: ir.Node, place: int, values: list[int]) -> None:
    tensor = ir.tensor(np.array(values, dtype=np.int64))
    constant = ir.Node("", "Constant", [], [ir.AttrTensor("value", tensor)])
    graph.insert_before(node, constant)
    node.replace_input_with(place, constant.outputs[0])


def _integers(value: ir.Value | None) -> list[int] | None:
    tensor = ir.convenience.get_const_tensor(value) if value is not None else None
    return None if tensor is None else [int(entry) for entry in tensor.numpy().ravel()]


def _steps(node: ir.Node) -> list[int] | None:
    """Steps of a Slice, one where it names none."""
    return _integers(node.inputs[4]) if len(node.inputs) > 4 else [1]


def _perm(node: ir.Node) -> tuple[int, ...]:
    return tuple(node.attributes.get_ints("perm", ()))


def _only_user(value: ir.Value) -> ir.Node | None:
    users = {use.node for use in value.uses()}
    return users.pop() if len(users) == 1 and not value.is_graph_output() else None
