from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx.helper import make_graph, make_model, make_node, make_tensor_value_info

from hardware.formats.fp32 import FP32
from hardware.formats.int4 import INT4
from hardware.formats.int8 import INT8
from hardware.formats.policy import QuantPolicy
from hardware.formats.scheme import QuantScheme
from hardware.writing.materialize import materialize
from hardware.writing.verify import PolicyError, read_layers, read_policy, verify
from tests.sample_networks import layers_of, random_policy, random_vit, vit


@pytest.mark.parametrize("seed", range(4))
def test_the_written_policy_is_read_back(seed: int) -> None:
    _, template = vit()
    rng = np.random.default_rng(seed)
    _, weights = random_vit(rng)
    policy = random_policy(template, weights, rng, ("fp32", "int8", "int4", "int3", "int2"))
    model = materialize(template, weights, policy, QuantScheme())
    assert read_policy(model) == policy
    coverage = verify(model, policy)
    assert coverage.layers == len(policy)
    assert coverage.low_precision_layers == sum(p != FP32 for p in policy.values())


def test_coverage_counts_weights_as_fp32_bytes() -> None:
    _, template = vit()
    _, weights = random_vit(np.random.default_rng(0))
    names = layers_of(template, weights)
    policy = QuantPolicy({**dict.fromkeys(names, INT8), "head": FP32})
    coverage = verify(materialize(template, weights, policy, QuantScheme()), policy)
    bytes_of = {name: weights[f"{name}.weight"].nbytes for name in names}
    assert coverage.weight_bytes_fp32 == sum(bytes_of.values())
    assert coverage.low_precision_bytes_fp32 == sum(bytes_of.values()) - bytes_of["head"]
    assert str(coverage).startswith(f"{len(names) - 1} of {len(names)} layers")


def test_what_layers_put_out_is_no_weight_though_no_input_changes_it() -> None:
    """As DeBERTa's keys of places: the product of a table and a projection, asked by queries."""
    nodes = [
        make_node("Mul", ["scale.weight", "table"], ["normed"]),
        make_node("MatMul", ["normed", "keys.weight"], ["keys"]),
        make_node("MatMul", ["x", "keys"], ["asked"]),
        make_node("MatMul", ["asked", "out.weight"], ["y"]),
    ]
    values = [
        numpy_helper.from_array(np.ones((2, 2), np.float32), name)
        for name in ("scale.weight", "table", "keys.weight", "out.weight")
    ]
    ends = [make_tensor_value_info(name, onnx.TensorProto.FLOAT, [2, 2]) for name in ("x", "y")]
    graph = make_graph(nodes, "g", ends[:1], ends[1:], values)
    layers = read_layers(make_model(graph))
    constant = {name: layer.constant for name, layer in layers.items()}
    assert constant == {"keys": True, "out": False}, "sessions compute keys when they load"


def test_a_difference_is_an_error_that_names_the_layer() -> None:
    _, template = vit()
    _, weights = random_vit(np.random.default_rng(0))
    int8 = QuantPolicy.uniform(layers_of(template, weights), INT8)
    model = materialize(template, weights, int8, QuantScheme())
    asked = QuantPolicy({**int8, "head": INT4, "gone": INT8})
    with pytest.raises(
        PolicyError, match=r"(?s)gone: .*no such layer.*head: asked int4, found int8"
    ):
        verify(model, asked)


def test_weight_only_int8_is_not_taken_for_int8_arithmetic() -> None:
    _, template = vit()
    _, weights = random_vit(np.random.default_rng(0))
    int8 = QuantPolicy({"head": INT8})
    model = materialize(template, weights, int8, QuantScheme())
    nodes = model.graph.node
    product = next(node for node in nodes if "head.weight" in node.input)
    x = next(n.input[0] for n in nodes if product.input[0] in n.output)
    decode = make_node("DequantizeLinear", ["head.weight", "head.scale"], ["columns"], axis=1)
    rest = list(nodes)[list(nodes).index(product) :]
    sums = next(n.output[0] for n in rest if n.op_type == "Mul" and "head.scale" not in n.input)
    behind = [node for node in rest if sums in node.input]
    del nodes[list(nodes).index(product) :]
    nodes.extend([decode, make_node("MatMul", [x, "columns"], [sums]), *behind])
    with pytest.raises(PolicyError, match=r"head: asked int8, found int8 \(MatMul, float\)"):
        verify(model, int8)


def test_a_broken_graph_is_refused_before_it_is_compared() -> None:
    _, template = vit()
    _, weights = random_vit(np.random.default_rng(0))
    model = materialize(template, weights, QuantPolicy({}), QuantScheme())
    verify(model, QuantPolicy({}))
    large = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    large.raw_data = large.raw_data[:-4]
    with pytest.raises(onnx.checker.ValidationError, match=large.name):
        verify(model, QuantPolicy({}))
    model = materialize(template, weights, QuantPolicy({}), QuantScheme())
    model.graph.node[-1].input[0] = "nowhere"
    with pytest.raises(onnx.checker.ValidationError, match="nowhere"):
        verify(model, QuantPolicy({}))
