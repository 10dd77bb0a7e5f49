"""The last block computes only the tokens that are read, which no result can tell."""

from __future__ import annotations

import inspect
from collections.abc import Mapping

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from hardware.formats.int8 import INT8
from hardware.formats.policy import QuantPolicy
from hardware.formats.scheme import QuantScheme
from hardware.graph.export import export_template
from hardware.graph.first_tokens import FIRST_TOKENS
from hardware.graph.template import Template
from hardware.session import open_session
from hardware.target import Target
from hardware.writing.materialize import arrays, materialize
from nas.evaluation.candidate_builder import template_of
from supernets.families.sizes import Sizes
from supernets.families.transformer import TransformerSuperNetwork
from supernets.layers.attention import Attention
from supernets.settings import SpaceSettings
from tests import sample_supernets as families

SCHEME = QuantScheme()
CASES = [case for case in families.CASES if case.id in ("vit", "deit", "bert", "modernbert")]


def run(model: onnx.ModelProto, feed: Mapping[str, np.ndarray], *values: str) -> list[np.ndarray]:
    names = [value.name for value in model.graph.output]
    extra = [onnx.helper.make_tensor_value_info(v, onnx.TensorProto.FLOAT, None) for v in values]
    model.graph.output.extend(extra)
    session = open_session(model.SerializeToString(), Target())
    return [np.asarray(found) for found in session.run([*names, *values], feed)]


def unmarked(template: Template) -> Template:
    """The template of a network of which every token might be read."""
    model = onnx.ModelProto()
    model.CopyFrom(template.model)
    (mark,) = [node for node in model.graph.node if FIRST_TOKENS in node.input]
    for node in model.graph.node:
        for place, name in enumerate(node.input):
            if name == mark.output[0]:
                node.input[place] = mark.input[0]
    model.graph.node.remove(mark)
    return Template(model, template.parameters, template.alternatives)


@pytest.mark.parametrize(("config", "settings"), CASES)
def test_whichever_block_is_last_computes_the_read_tokens_alone(
    config: Sizes, settings: SpaceSettings
) -> None:
    network = families.build(families.with_two_blocks(config))
    assert isinstance(network, TransformerSuperNetwork)
    space = network.space(settings)
    template = template_of(network, space)
    reads = getattr(config, "head_tokens", 1)
    lasts = set()
    for genome in [space.smallest(), space.largest(), *space.sample(2, np.random.default_rng(0))]:
        architecture, _ = space.split(genome)
        network.activate(architecture)
        inputs = network.adapt_inputs(families.batch(network).inputs)
        feed = {name: tensor.numpy() for name, tensor in inputs.items()}
        weights, fp32 = arrays(network.deploy().state_dict()), QuantPolicy({})
        last = network.active_blocks[-1]
        hidden = [
            node.output[0]
            for layer in ("attention.query", "mlp.fc1")
            for index in network.active_blocks
            for node in template.model.graph.node
            if template.layer_of.get(node.name, ("",))[0] == f"blocks.{index}.{layer}"
        ]
        logits, *found = run(materialize(template, weights, fp32, SCHEME), feed, *hidden)
        whole = materialize(unmarked(template), weights, fp32, SCHEME)
        expected, *wide = run(whole, feed, *hidden)
        np.testing.assert_allclose(logits, expected, atol=1e-5, rtol=1e-5)
        np.testing.assert_allclose(logits, network(**inputs).detach(), atol=1e-5, rtol=1e-5)
        np.testing.assert_allclose(found[-1], wide[-1][:, :reads], atol=1e-5, rtol=1e-5)
        every = wide[-1].shape[1]
        tokens = [*[every] * (len(network.active_blocks) - 1), reads]
        rows = [x.shape[0] * x.shape[1] for x in found]  # of queries, tokens may come first
        assert rows == [len(logits) * count for count in tokens * 2]
        lasts.add(last)
    assert len(lasts) > 1


@pytest.mark.parametrize(("config", "settings"), CASES)
def test_torch_computes_what_all_tokens_would_give(config: Sizes, settings: SpaceSettings) -> None:
    network = families.build(config).eval()
    assert isinstance(network, TransformerSuperNetwork)
    inputs = families.batch(network).inputs
    expected = network(**inputs)
    blocks = [network.block(index) for index in network.active_blocks]
    forwards = [block.forward for block in blocks]
    for block, forward in zip(blocks, forwards, strict=True):
        place = list(inspect.signature(forward).parameters).index("read")
        block.forward = lambda *given, forward=forward, place=place: forward(
            *given[:place], None, *given[place + 1 :]
        )
    torch.testing.assert_close(network(**inputs), expected)


class Pooled(nn.Module):
    """One block whose output is averaged over all tokens."""

    def __init__(self) -> None:
        super().__init__()
        query, key, value, out = (nn.Linear(8, 8) for _ in range(4))
        self.blocks = nn.ModuleList([Attention(query, key, value, out, 4)])

    def forward(self, x: Tensor) -> Tensor:
        mean: Tensor = (x + self.blocks[0](x)).mean(1)
        return mean


def test_where_all_tokens_are_read_nothing_is_left_out() -> None:
    network, x = Pooled(), torch.randn(2, 5, 8)
    template = export_template(network, {"x": x}, dynamic_axes={"x": {0: "batch"}})
    assert all(tensor.name != FIRST_TOKENS for tensor in template.model.graph.initializer)
    weights = arrays(network.state_dict())
    int8 = QuantPolicy.uniform([layer.name for layer in template.layers], INT8)
    model = materialize(template, weights, int8, SCHEME)
    assert [node.op_type for node in model.graph.node].count("Gather") == 0
