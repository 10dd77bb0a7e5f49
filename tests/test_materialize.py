from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from hardware.formats.int8 import INT8
from hardware.formats.policy import QuantPolicy
from hardware.formats.scheme import QuantScheme
from hardware.formats.weight_memo import WeightMemo
from hardware.graph.template import Template
from hardware.session import open_session, predict
from hardware.target import Target
from hardware.writing.materialize import arrays, materialize
from tests.sample_networks import images, layers_of, random_policy, random_vit, vit


def run(model: onnx.ModelProto, x: torch.Tensor) -> np.ndarray:
    session = open_session(model.SerializeToString(), Target())
    return predict(session, [{"pixel_values": x.numpy()}])


@pytest.mark.parametrize("seed", range(5))
def test_sliced_fp32_graph_equals_the_extracted_torch_network(seed: int) -> None:
    _, template = vit()
    network, weights = random_vit(np.random.default_rng(seed))
    model = materialize(template, weights, QuantPolicy({}), QuantScheme())
    onnx.checker.check_model(model, full_check=True)
    with torch.no_grad():
        expected = network(images(5)).numpy()
    assert np.abs(run(model, images(5)) - expected).max() <= 1e-5 * np.abs(expected).max()


def test_every_batch_size_runs() -> None:
    _, template = vit()
    _, weights = random_vit(np.random.default_rng(0))
    model = materialize(template, weights, QuantPolicy({}), QuantScheme())
    whole = run(model, images(7))
    alone = np.concatenate([run(model, image[None]) for image in images(7)])
    np.testing.assert_allclose(whole, alone, atol=1e-5)


def test_memo_gives_the_same_bytes_and_notices_changed_weights() -> None:
    _, template = vit()
    rng, memo = np.random.default_rng(4), WeightMemo()
    for _ in range(4):
        _, weights = random_vit(rng)
        policy = random_policy(template, weights, rng, ("fp32", "int8", "int4"))
        remembered = materialize(template, weights, policy, QuantScheme(), memo=memo)
        fresh = materialize(template, weights, policy, QuantScheme())
        assert remembered.SerializeToString() == fresh.SerializeToString()
    changed = {name: array * 1.5 for name, array in weights.items()}
    remembered = materialize(template, changed, policy, QuantScheme(), memo=memo)
    fresh = materialize(template, changed, policy, QuantScheme())
    assert remembered.SerializeToString() == fresh.SerializeToString()


def test_query_key_and_value_share_one_quantized_activation() -> None:
    _, template = vit()
    network, _ = vit()
    network.activate({})
    weights = arrays(network.extract().state_dict())
    int8 = QuantPolicy.uniform(layers_of(template, weights), INT8)
    graph = materialize(template, weights, int8, QuantScheme()).graph
    quantizers = [node for node in graph.node if node.op_type == "DynamicQuantizeLinear"]
    assert len(quantizers) == 2 + 4 * 3 + 1, "patch_embed, head, four per block, last query"


def test_template_reads_back_equal(tmp_path: Path) -> None:
    _, template = vit()
    template.save(tmp_path / "template.onnx")
    again = Template.load(tmp_path / "template.onnx")
    assert again == template
    assert again.layers == template.layers


def test_a_template_of_the_first_version_reads_back(tmp_path: Path) -> None:
    """Its table was of dropped modules alone: path -> input and output."""
    _, template = vit()
    template.save(tmp_path / "template.onnx")
    model = onnx.load(tmp_path / "template.onnx")
    old = {path: list(bypass) for path, bypass in template.bypasses.items()}
    tables = {"parameters": template.parameters, "bypasses": old}
    onnx.helper.set_model_props(model, {k: json.dumps(v) for k, v in tables.items()})
    onnx.save(model, tmp_path / "old.onnx")
    assert old
    assert Template.load(tmp_path / "old.onnx").alternatives == template.alternatives


def test_weights_that_no_dropped_block_explains_are_an_error() -> None:
    _, template = vit()
    _, weights = random_vit(np.random.default_rng(0))
    broken = {name: array for name, array in weights.items() if name != "norm.weight"}
    with pytest.raises(ValueError, match=r"norm\.weight.*blocks\.0"):
        materialize(template, broken, QuantPolicy({}), QuantScheme())


def test_a_policy_for_a_layer_that_is_not_there_is_an_error() -> None:
    _, template = vit()
    _, weights = random_vit(np.random.default_rng(0))
    policy = QuantPolicy({"blocks.9.mlp.fc1": INT8})
    with pytest.raises(ValueError, match=r"blocks\.9\.mlp\.fc1"):
        materialize(template, weights, policy, QuantScheme())


def test_heads_cut_in_the_middle_are_an_error() -> None:
    _, template = vit()
    _, weights = random_vit(np.random.default_rng(0))
    query = next(name for name in weights if name.endswith("query.weight"))
    with pytest.raises(ValueError, match="head size 12"):
        materialize(
            template, {**weights, query: weights[query][:7]}, QuantPolicy({}), QuantScheme()
        )
