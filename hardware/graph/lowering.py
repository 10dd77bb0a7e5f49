"""Newer operators written with older ones, so that a graph loads wherever models are deployed.

A template keeps `Attention` (opset 23) and `Gelu` (opset 20): one node is cut and narrowed more
easily than ten. What is written for a candidate takes older operators in their place, unless it is
asked to be of an opset that has them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx.defs import SchemaError, get_schema, has
from onnx.helper import get_attribute_value, make_attribute, make_node

Constants = Mapping[str, NDArray[np.generic]]
OLDEST_OPSET = 13
"""First opset whose DequantizeLinear has a scale per channel."""
NEWEST_OPSET = 23
"""The opset that templates are exported in."""
INTRODUCED = {"Gelu": 20, "Attention": 23}
"""First opset of the operators that can be written with older ones."""
AXES_GIVEN = 18
"""First opset in which all reductions take their axes as an input, and none as an attribute."""
TOKENS_FIRST = (1, 0, 2)
"""Permutation of (batch, tokens, width), or back."""

SQRT_2, ONE, HALF, ZERO, NEVER = "sqrt2", "1.0", "0.5", "0.0", "-inf"
THREE, CUBIC, SQRT_2_PI = "3.0", "cubic", "sqrt2pi"
SUMMAND = "summand_"
"""What names of masks begin with that are floats, to be added to the scores."""
SPLIT, MERGED, SCALE = "heads", "merged", "heads_scale"
ZEROS = "zeros"


class OpsetError(ValueError):
    """An operator that the opset asked for does not have."""


def lower(
    nodes: Iterable[onnx.NodeProto],
    opset: int | None,
    head_size: Callable[[onnx.NodeProto], int],
    lists: Mapping[str, Sequence[int]] | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
) -> list[onnx.NodeProto]:
    """The nodes, those that `opset` lacks written with older ones; without a number all of them.

    head_size: width of the heads of a template's `Attention`.
    lists: constants that are lists of whole numbers.
    shapes: of what normalizations are scaled by.
    Constants among the new nodes' inputs are those of `constant`.
    Raises OpsetError for an operator that `opset` does not have and that cannot be written so.
    """
    masks: set[str] = set()
    written: list[onnx.NodeProto] = []
    for node in nodes:
        without_defaults(node)
        if node.domain or INTRODUCED.get(node.op_type, 0) <= (opset or OLDEST_OPSET):
            written.append(node)
        elif node.op_type == "Gelu":
            written += _inside(node, _gelu(node))
        else:
            written += _inside(node, _attention(node, head_size(node), masks))
    written = _turned_once(written)
    _give_biases(written, shapes or {})
    _take_axes_in(written, opset, lists or {})
    _name_slices(written)
    newest = max((node for node in written if not node.domain), key=needs, default=None)
    if newest is not None and opset is not None and needs(newest) > opset:
        raise OpsetError(
            f"export.opset: {opset} is below what {_place(newest)} needs: {newest.op_type} exists "
            f"in this form since opset {needs(newest)}"
        )
    return written


def _place(node: onnx.NodeProto) -> str:
    """Module path of a template's node."""
    scopes = (entry.value for entry in node.metadata_props if entry.key == "scope")
    return next(scopes, "") or "the network"


def constant(name: str) -> NDArray[np.generic] | None:
    """The value of a constant that lowered nodes read, None for any other name."""
    if name.startswith(SCALE):
        return np.array(int(name.removeprefix(SCALE)) ** -0.5, np.float32)
    if name.startswith(ZEROS):
        return np.zeros(int(name.removeprefix(ZEROS)), np.float32)
    if name.startswith(SPLIT):
        return np.array([0, 0, -1, int(name.removeprefix(SPLIT))], np.int64)
    known: Constants = {
        MERGED: np.array([0, 0, -1], np.int64),
        SQRT_2: np.array(2**0.5, np.float32),
        SQRT_2_PI: np.array((2 / np.pi) ** 0.5, np.float32),
        CUBIC: np.array(0.044715, np.float32),
        THREE: np.array(3, np.float32),
        ONE: np.array(1, np.float32),
        HALF: np.array(0.5, np.float32),
        ZERO: np.array(0, np.float32),
        NEVER: np.array(-np.inf, np.float32),
    }
    return known.get(name)


def _inside(source: onnx.NodeProto, nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """The nodes with names of their own, in the module that `source` is of."""
    for number, node in enumerate(nodes):
        node.name = f"{source.name}/{number}"
        if node.op_type != "Where":  # a mask is every block's
            node.metadata_props.extend(source.metadata_props)
        yield node


def _gelu(node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    """x (1 + erf(x / sqrt 2)) / 2, or its approximation; sessions fuse either to one kernel again.

    The approximation is x/2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))).
    """
    attributes = {entry.name: get_attribute_value(entry) for entry in node.attribute}
    (x,), (y,) = node.input, node.output
    if attributes.get("approximate") == b"tanh":
        yield make_node("Pow", [x, THREE], [f"{y}/a"])
        yield make_node("Mul", [f"{y}/a", CUBIC], [f"{y}/b"])
        yield make_node("Add", [x, f"{y}/b"], [f"{y}/c"])
        yield make_node("Mul", [f"{y}/c", SQRT_2_PI], [f"{y}/d"])
        yield make_node("Tanh", [f"{y}/d"], [f"{y}/e"])
        yield make_node("Add", [f"{y}/e", ONE], [f"{y}/f"])
        yield make_node("Mul", [x, HALF], [f"{y}/g"])
        yield make_node("Mul", [f"{y}/g", f"{y}/f"], [y])
        return
    yield make_node("Div", [x, SQRT_2], [f"{y}/a"])
    yield make_node("Erf", [f"{y}/a"], [f"{y}/b"])
    yield make_node("Add", [f"{y}/b", ONE], [f"{y}/c"])
    yield make_node("Mul", [x, f"{y}/c"], [f"{y}/d"])
    yield make_node("Mul", [f"{y}/d", HALF], [y])


def _attention(node: onnx.NodeProto, head_size: int, masks: set[str]) -> Iterator[onnx.NodeProto]:
    """softmax(scale Q K^T + mask) V for every head, from projections (B, T, N*H).

    Tokens go before the batch first, which copies rows, and of one sample moves nothing: the
    second permutation then is one that ONNX Runtime's matrix product takes as its operand's order.
    (benchmarks/README.md has other ways to split heads.)
    masks: boolean masks that have been turned into summands; the new ones are added.
    """
    attributes = {entry.name: get_attribute_value(entry) for entry in node.attribute}
    assert "is_causal" not in attributes, "families look both ways"
    scale = f"{SCALE}{round(attributes.get('scale', head_size**-0.5) ** -2)}"
    query, key, value, *mask = node.input
    y, split = node.output[0], f"{SPLIT}{head_size}"
    for name, source, perm in (
        ("q", query, (1, 2, 0, 3)),
        ("k", key, (1, 2, 3, 0)),
        ("v", value, (1, 2, 0, 3)),
    ):
        first, heads = f"{y}/{name}/first", f"{y}/{name.upper()}"
        yield make_node("Transpose", [source], [first], perm=TOKENS_FIRST)
        yield make_node("Reshape", [first, split], [heads])
        yield make_node("Transpose", [heads], [f"{y}/{name}"], perm=perm)
    yield make_node("MatMul", [f"{y}/q", f"{y}/k"], [f"{y}/s"])
    yield make_node("Mul", [f"{y}/s", scale], [f"{y}/t"])
    scores = f"{y}/t"
    for allowed in mask:
        summand = allowed if allowed.startswith(SUMMAND) else f"{allowed}/sum"
        if summand != allowed and summand not in masks:
            masks.add(summand)
            yield make_node("Where", [allowed, ZERO, NEVER], [summand])
        yield make_node("Add", [scores, summand], [f"{y}/u"])
        scores = f"{y}/u"
    yield make_node("Softmax", [scores], [f"{y}/p"])
    yield make_node("MatMul", [f"{y}/p", f"{y}/v"], [f"{y}/o"])
    yield make_node("Transpose", [f"{y}/o"], [f"{y}/O"], perm=(0, 2, 1, 3))
    yield make_node("Reshape", [f"{y}/O", MERGED], [y])


def _turned_once(nodes: list[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """Bring tokens before the batch in what several projections read, instead of in what each of
    them puts out."""
    turns = {node.input[0]: node for node in nodes if _turns(node)}
    read = Counter(name for node in nodes for name in node.input)
    found = [n for n in nodes if n.op_type == "Linear" and n.output[0] in turns]
    found = [node for node in found if read[node.output[0]] == 1]
    together = Counter(node.input[0] for node in found)
    moved = {node.output[0]: node.input[0] for node in found if together[node.input[0]] > 1}
    renamed = {turns[value].output[0]: value for value in moved}
    written, turned = list[onnx.NodeProto](), set[str]()
    for node in nodes:
        if node.output[0] in renamed:
            continue
        x = moved.get(node.output[0])
        if x is not None:
            node.input[0] = f"{x}/turned"
            if x not in turned:
                turned.add(x)
                turn = make_node("Transpose", [x], [f"{x}/turned"], perm=TOKENS_FIRST)
                written += _inside(node, [turn])
        node.input[:] = [renamed.get(name, name) for name in node.input]
        written.append(node)
    return written


def _turns(node: onnx.NodeProto) -> bool:
    perms = (get_attribute_value(entry) for entry in node.attribute if entry.name == "perm")
    return node.op_type == "Transpose" and tuple(next(perms, ())) == TOKENS_FIRST


def _give_biases(nodes: Sequence[onnx.NodeProto], shapes: Mapping[str, Sequence[int]]) -> None:
    """Let normalizations without a bias add zeros: where several nodes read such a one, ONNX
    Runtime up to 1.18 looks at the bias for the width, and aborts.

    The zeros are as many as in the full network: no network narrows a normalization without a bias.
    """
    for node in nodes:
        shape = shapes.get(node.input[1], ()) if node.op_type == "LayerNormalization" else ()
        if len(node.input) == 2 and len(shape) == 1:
            node.input.append(f"{ZEROS}{shape[0]}")


def _take_axes_in(
    nodes: Sequence[onnx.NodeProto], opset: int | None, lists: Mapping[str, Sequence[int]]
) -> None:
    """Give reductions their axes as an attribute where no other operator needs an opset in which
    they have none."""
    reductions = [
        node
        for node in nodes
        if node.op_type.startswith("Reduce")
        and needs(node) >= AXES_GIVEN
        and node.input[1] in lists
    ]
    others = (node for node in nodes if node not in reductions)
    if reductions and (opset or least_opset(others)) < AXES_GIVEN:
        for node in reductions:
            node.attribute.append(make_attribute("axes", lists[node.input.pop()]))


def _name_slices(nodes: Sequence[onnx.NodeProto]) -> None:
    """Name slices of one value by what they put out: ONNX Runtime 1.18 to 1.20 takes them together
    in a node named after one of them, and refuses two nodes of one name."""
    slices = [node for node in nodes if node.op_type in ("Gather", "Slice")]
    read = Counter(node.input[0] for node in slices)
    for node in slices:
        if read[node.input[0]] > 1:
            node.name = node.output[0]


def drop_name(node: onnx.NodeProto) -> None:
    """Remove a name that no session needs: all but the one of what the node puts out."""
    if node.name != node.output[0]:
        node.ClearField("name")


def without_defaults(node: onnx.NodeProto) -> None:
    """Remove attributes that say what their operator does anyway."""
    spoken = [entry for entry in node.attribute if not _is_default(node.op_type, entry)]
    if not node.domain and len(spoken) < len(node.attribute):
        node.ClearField("attribute")
        node.attribute.extend(spoken)


def _is_default(operator: str, entry: onnx.AttributeProto) -> bool:
    if not has(operator):
        return False
    known = get_schema(operator).attributes.get(entry.name)
    return known is not None and known.default_value == entry


def least_opset(nodes: Iterable[onnx.NodeProto]) -> int:
    """The lowest opset that has every operator as these nodes use it."""
    return max((needs(node) for node in nodes if not node.domain), default=OLDEST_OPSET)


def needs(node: onnx.NodeProto) -> int:
    """The lowest opset that has a node's operator, attributes and number of inputs."""
    attributes = frozenset(entry.name for entry in node.attribute)
    return _first_opset(node.op_type, attributes, len(node.input))


@cache
def _first_opset(operator: str, attributes: frozenset[str], inputs: int) -> int:
    fitting = (
        opset
        for opset in range(OLDEST_OPSET, NEWEST_OPSET + 1)
        if _fits(operator, attributes, inputs, opset)
    )
    return next(fitting)


def _fits(operator: str, attributes: frozenset[str], inputs: int, opset: int) -> bool:
    try:
        schema = get_schema(operator, opset)
    except SchemaError:
        return False
    return attributes <= set(schema.attributes) and inputs <= schema.max_input
