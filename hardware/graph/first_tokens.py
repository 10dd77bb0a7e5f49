"""Of the last block, only the tokens that the classifier reads.

Attention of the last block needs keys and values of all tokens; its queries, and everything after
them, are read at the first token (or two) alone. Which block is the last differs from candidate to
candidate, so a template only marks what is read: a Gather of the first tokens, behind its last
block. `narrow` moves that mark to the front of whichever block a candidate ends with.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence

import onnx
from onnx.helper import make_node

FIRST_TOKENS = "first_tokens"
"""Tensor of a template: indices of the tokens that are read, 0 to n - 1."""

TOKENWISE = {"Attention", "Linear", "Add", "Mul", "LayerNormalization", "Gelu", "Relu", "Sigmoid"}
TOKENS, QUERIES = 1, 2
"""Axes of activations (batch, tokens, width) and of attention masks (batch, heads, queries, T)."""


def narrow(
    nodes: list[onnx.NodeProto],
    blocks: Iterable[str],
    constants: Container[str],
    shapes: Mapping[str, Sequence[int]],
    stands_in: Mapping[str, str],
) -> list[onnx.NodeProto]:
    """Compute the last block's queries, and all that follows them, for the tokens read alone.

    `nodes` are in order and carry their scopes, `blocks` are module paths that may be narrowed,
    `constants` names that are no activations, `shapes` those of them that Reshape may read. A value
    that nobody reads is read as the one that it `stands_in` for. Without a mark, or a block before
    it, nothing moves.
    """
    mark = next((node for node in nodes if FIRST_TOKENS in node.input), None)
    if mark is None:
        return nodes
    paths = tuple(f"{path}." for path in blocks)
    users: dict[str, list[onnx.NodeProto]] = {}
    for node in nodes:
        for name in node.input:
            users.setdefault(name, []).append(node)
    narrowed: set[str] = set()

    def reads_first(user: onnx.NodeProto, value: str) -> bool:
        axes = {_axis(user, place) for place, name in enumerate(user.input) if name == value}
        return user is mark or (user.name in narrowed and axes == {TOKENS})

    for node in reversed(nodes):
        inside = f"{scope(node)}.".startswith(paths)
        if inside and _is_tokenwise(node, shapes):
            value = stands_in.get(node.output[0], node.output[0])
            if all(reads_first(user, value) for user in users.get(value, [])):
                narrowed.add(node.name)
    return _moved(nodes, mark, narrowed, constants) if narrowed else nodes


def _is_tokenwise(node: onnx.NodeProto, shapes: Mapping[str, Sequence[int]]) -> bool:
    """Whether an output's tokens are computed from the same ones of those inputs that have any."""
    if node.op_type == "Reshape":
        return list(shapes.get(node.input[1], ()))[:2] == [0, 0]
    if node.op_type == "Gather":
        return any(entry.name == "axis" and entry.i > TOKENS for entry in node.attribute)
    return node.op_type in TOKENWISE


def scope(node: onnx.NodeProto) -> str:
    """Module path of a template's node, empty for the network itself."""
    return next((entry.value for entry in node.metadata_props if entry.key == "scope"), "")


def _axis(node: onnx.NodeProto, place: int) -> int | None:
    """Axis of an input along which only the tokens that are read of the output count.

    None for the keys and values of `Attention`, which count for every query.
    """
    return {0: TOKENS, 3: QUERIES}.get(place) if node.op_type == "Attention" else TOKENS


def _moved(
    nodes: list[onnx.NodeProto],
    mark: onnx.NodeProto,
    narrowed: set[str],
    constants: Container[str],
) -> list[onnx.NodeProto]:
    """The nodes with every way into the narrowed ones gathered, and the mark gone."""
    written: list[onnx.NodeProto] = []
    short = {output for node in nodes if node.name in narrowed for output in node.output}
    gathered: set[str] = set()

    def first(value: str, axis: int) -> str:
        if value in constants or value in short:
            return value
        name = f"{value}/first"
        if name not in gathered:
            gathered.add(name)
            written.append(make_node("Gather", [value, FIRST_TOKENS], [name], name, axis=axis))
        return name

    for node in nodes:
        if node is mark:
            continue
        for place, value in enumerate(node.input):
            axis = _axis(node, place) if node.name in narrowed else None
            if value == mark.output[0]:
                node.input[place] = mark.input[0]
            elif axis is not None:
                node.input[place] = first(value, axis)
        written.append(node)
    return written
