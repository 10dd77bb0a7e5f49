"""Older operators compute what the newer ones do, and graphs ask for no newer opset than needed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto
from onnx.helper import make_graph, make_model, make_node, make_opsetid, make_tensor_value_info
from onnx.numpy_helper import from_array

from hardware.formats.format import Format
from hardware.formats.fp32 import FP32
from hardware.formats.int4 import INT4
from hardware.formats.int8 import INT8
from hardware.formats.policy import QuantPolicy
from hardware.formats.scheme import QuantScheme
from hardware.graph.lowering import (
    SUMMAND,
    OpsetError,
    constant,
    drop_name,
    least_opset,
    lower,
)
from hardware.graph.template import DOMAIN, Template
from hardware.writing.materialize import arrays, materialize
from tests.sample_networks import bert, random_vit, vit

HEADS, HEAD_SIZE, TOKENS = 3, 4, 5
Arrays = dict[str, NDArray[np.generic]]


def run(nodes: list[onnx.NodeProto], inputs: Arrays, opset: int) -> NDArray[np.float32]:
    """The value `y` of a graph of these nodes."""
    names = {name for node in nodes for name in node.input}
    constants = {n: v for n in names - inputs.keys() if (v := constant(n)) is not None}
    graph = make_graph(
        nodes,
        "graph",
        [
            make_tensor_value_info(n, onnx.helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
            for n, a in inputs.items()
        ],
        [make_tensor_value_info("y", TensorProto.FLOAT, next(iter(inputs.values())).shape)],
        [from_array(value, name) for name, value in constants.items()],
    )
    model = make_model(graph, opset_imports=[make_opsetid("", opset)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    result: NDArray[np.float32] = session.run(["y"], inputs)[0]
    return result


def attention(masked: bool) -> tuple[onnx.NodeProto, Arrays]:
    """An `Attention` node on random projections, the second sample padded if there is a mask."""
    rng = np.random.default_rng(0)
    shape = (2, TOKENS, HEADS * HEAD_SIZE)
    inputs: Arrays = {name: rng.normal(size=shape).astype(np.float32) for name in "qkv"}
    if masked:
        allowed = np.ones((2, 1, TOKENS, TOKENS), bool)
        allowed[1, :, :, 3:] = False
        inputs["mask"] = allowed
    node = make_node("Attention", list(inputs), ["y"], q_num_heads=HEADS, kv_num_heads=HEADS)
    return node, inputs


@pytest.mark.parametrize("masked", [False, True])
def test_attention_of_older_operators_computes_the_same(masked: bool) -> None:
    node, inputs = attention(masked)
    expected = run([node], inputs, 23)
    older = lower([node], None, lambda _: HEAD_SIZE)
    assert least_opset(older) == 13
    np.testing.assert_allclose(run(older, inputs, 13), expected, rtol=1e-5, atol=1e-6)


def test_attention_with_summands_and_a_scale_of_its_own_computes_the_same() -> None:
    node, inputs = attention(True)
    rng = np.random.default_rng(1)
    allowed = inputs.pop("mask")
    inputs["padding"] = np.where(allowed, 0, -np.inf).astype(np.float32)
    inputs["bias"] = rng.normal(size=(1, HEADS, TOKENS, TOKENS)).astype(np.float32)
    node.attribute.append(onnx.helper.make_attribute("scale", (3 * HEAD_SIZE) ** -0.5))
    node.input[3] = f"{SUMMAND}mask"
    nodes = [make_node("Add", ["padding", "bias"], [f"{SUMMAND}mask"]), node]
    expected = run(nodes, inputs, 23)
    older = lower(nodes, None, lambda _: HEAD_SIZE)
    np.testing.assert_allclose(run(older, inputs, 13), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu_of_older_operators_computes_the_same(approximate: str) -> None:
    x: Arrays = {"x": np.linspace(-6, 6, 101, dtype=np.float32)}
    node = make_node("Gelu", ["x"], ["y"], approximate=approximate)
    older = lower([node], None, lambda _: 0)
    np.testing.assert_allclose(run(older, x, 13), run([node], x, 20), atol=1e-6)


def test_an_operator_that_the_opset_has_is_left_alone() -> None:
    gelu, (node, _) = make_node("Gelu", ["x"], ["z"]), attention(masked=False)
    kept = lower([gelu, node], 20, lambda _: HEAD_SIZE)
    assert kept[0].op_type == "Gelu"
    assert "Attention" not in {n.op_type for n in kept}
    assert [n.op_type for n in lower([gelu, node], 23, lambda _: 0)] == ["Gelu", "Attention"]


def test_an_opset_without_an_operator_is_refused_by_the_layers_name() -> None:
    norm = make_node("LayerNormalization", ["x", "s", "b"], ["y"], name="n")
    norm.metadata_props.add(key="scope", value="blocks.2.norm1")
    with pytest.raises(OpsetError, match=r"13.*blocks\.2\.norm1.*LayerNormalization.*17"):
        lower([norm], 13, lambda _: 0)


@pytest.mark.parametrize("policy", [FP32, INT8, INT4], ids=str)
def test_graphs_load_in_runtimes_of_2023(policy: Format) -> None:
    """ONNX Runtime 1.16 knows opset 19 and file format 9; no operator is ours or Microsoft's."""
    _, vit_template = vit()
    _, vit_weights = random_vit(np.random.default_rng(0))
    plain_bert, bert_template = bert()
    for template, weights in (
        (vit_template, vit_weights),
        (bert_template, arrays(plain_bert.state_dict())),
    ):
        names = [layer.name for layer in template.layers]
        model = materialize(template, weights, QuantPolicy.uniform(names, policy), QuantScheme())
        (opset,) = model.opset_import
        assert (opset.domain, opset.version) == ("", 17)
        assert model.ir_version <= 9
        assert {node.domain for node in model.graph.node} == {""}
        assert not model.functions


def test_a_newer_opset_is_written_where_it_is_asked_for() -> None:
    _, template = vit()
    _, weights = random_vit(np.random.default_rng(0))
    newer = replace(template, opset=23)
    oldest = materialize(template, weights, QuantPolicy({}), QuantScheme())
    newest = materialize(newer, weights, QuantPolicy({}), QuantScheme())
    assert newest.opset_import[0].version == 23
    assert "Attention" in {node.op_type for node in newest.graph.node}
    x = np.random.default_rng(1).normal(size=(2, 1, 16, 16)).astype(np.float32)
    older, newer_logits = (
        onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"pixel_values": x})[0]
        for model in (oldest, newest)
    )
    np.testing.assert_allclose(older, newer_logits, atol=1e-4)


def test_a_template_keeps_its_opset_when_it_is_shortened() -> None:
    _, template = vit()
    newer: Template = replace(template, opset=23)
    assert newer.shortened(["blocks.2"]).opset == 23


def linear(name: str, x: str, scope: str = "") -> onnx.NodeProto:
    """A template's linear layer without a bias, which writes the value of its own name."""
    node = make_node("Linear", [x, f"{name}.weight"], [name], f"{name}/Linear", domain=DOMAIN)
    node.metadata_props.add(key="scope", value=scope or name)
    return node


def test_what_query_key_and_value_read_is_turned_once() -> None:
    node, _ = attention(masked=False)
    older = lower([*(linear(name, "x") for name in "qkv"), node], None, lambda _: HEAD_SIZE)
    turns = [n for n in older if n.op_type == "Transpose" and n.input[0] in ("x", *"qkv")]
    assert [list(n.input) for n in turns] == [["x"]]
    assert {n.input[0] for n in older if n.op_type == "Linear"} == set(turns[0].output)
    assert sum(n.op_type == "Transpose" for n in older) == 5  # and three of heads, and one back


def test_a_query_of_its_own_and_a_projection_read_twice_are_turned_themselves() -> None:
    node, _ = attention(masked=False)
    layers = [linear("q", "first"), linear("k", "x"), linear("v", "x")]
    older = lower([*layers, node], None, lambda _: HEAD_SIZE)
    assert {n.input[0] for n in older if list(n.input[:1]) in (["q"], ["x"])} == {"q", "x"}
    twice = [linear("q", "x"), linear("k", "x"), make_node("Neg", ["k"], ["n"])]
    node.input[2] = "k"
    kept = lower([*twice, node], None, lambda _: HEAD_SIZE)
    assert [n.input[0] for n in kept if n.op_type == "Linear"] == ["x", "x"]


@pytest.mark.parametrize(("operator", "power"), [("ReduceMean", 1), ("ReduceL2", 2)])
def test_axes_go_into_reductions_unless_another_operator_needs_a_newer_opset(
    operator: str, power: int
) -> None:
    def lowered(opset: int | None, *more: onnx.NodeProto) -> list[onnx.NodeProto]:
        nodes = [make_node(operator, ["x", "axes"], ["r"]), make_node("Add", ["r", "x"], ["y"])]
        return lower([*nodes, *more], opset, lambda _: 0, {"axes": [1]})

    x: Arrays = {"x": np.random.default_rng(0).random(size=(2, 3, 4), dtype=np.float32)}
    total = (x["x"] ** power).sum(1, keepdims=True)
    expected = x["x"] + (total / 3 if power == 1 else np.sqrt(total))
    assert least_opset(lowered(None)) == 13
    np.testing.assert_allclose(run(lowered(None), x, 13), expected, rtol=1e-5)
    for kept in (lowered(18), lowered(None, make_node("BitwiseNot", ["i"], ["j"]))):
        assert list(kept[0].input) == ["x", "axes"]
        assert least_opset(kept) == 18


def test_normalizations_without_a_bias_add_zeros() -> None:
    rng = np.random.default_rng(0)
    inputs: Arrays = {name: rng.normal(size=shape).astype(np.float32) for name, shape in
                      (("x", (2, 3, 4)), ("scale", (4,)), ("bias", (4,)))}  # fmt: skip
    bare = make_node("LayerNormalization", ["x", "scale"], ["y"])
    biased = make_node("LayerNormalization", ["x", "scale", "bias"], ["y"])
    unknown = make_node("LayerNormalization", ["x", "other"], ["y"])
    expected = run([bare], inputs, 17)
    kept = lower([bare, biased, unknown], None, lambda _: 0, shapes={"scale": (4,)})
    assert [list(node.input[2:]) for node in kept] == [["zeros4"], ["bias"], []]
    np.testing.assert_array_equal(run(kept[:1], inputs, 17), expected)


def test_slices_of_one_value_keep_different_names() -> None:
    halves = [make_node("Slice", ["x", *bounds], [bounds[0]]) for bounds in ("ab", "cd")]
    other = make_node("Slice", ["y", "a", "b"], ["z"], "other")
    for node in (written := lower([*halves, other], None, lambda _: 0)):
        drop_name(node)
    assert [node.name for node in written] == ["a", "c", ""]
