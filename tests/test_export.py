from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from hardware.formats.policy import QuantPolicy
from hardware.formats.scheme import QuantScheme
from hardware.graph.export import export_template
from hardware.graph.template import Template
from hardware.session import open_session, predict
from hardware.target import Target
from hardware.writing.materialize import arrays, materialize


def export(network: nn.Module, x: torch.Tensor) -> Template:
    return export_template(network, {"x": x}, dynamic_axes={"x": {0: "batch"}})


def assert_same(network: nn.Module, template: Template, x: torch.Tensor) -> None:
    model = materialize(template, arrays(network.state_dict()), QuantPolicy({}), QuantScheme())
    found = predict(open_session(model.SerializeToString(), Target()), [{"x": x.numpy()}])
    np.testing.assert_allclose(found, network(x).detach().numpy(), atol=1e-5)


class Attention(nn.Module):
    def __init__(self, plain: bool) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(12, 12) for _ in range(3))
        self.plain = plain

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        query, key, value = (
            layer(x).unflatten(-1, (3, 4)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        joined = F.scaled_dot_product_attention(query if self.plain else query * 2, key, value)
        return joined.transpose(1, 2).flatten(2)


def test_attention_becomes_one_node_without_reshapes() -> None:
    network, x = Attention(plain=True), torch.randn(2, 5, 12)
    template = export(network, x)
    kinds = [node.op_type for node in template.model.graph.node]
    assert kinds == ["Linear", "Linear", "Linear", "Attention"]
    assert_same(network, template, x)


def test_attention_whose_heads_cannot_be_followed_is_an_error() -> None:
    with pytest.raises(ValueError, match="heads are not a plain reshape"):
        export(Attention(plain=False), torch.randn(2, 5, 12))


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.layer(self.layer(x))
        return y


def test_a_layer_used_twice_is_an_error_that_names_it() -> None:
    with pytest.raises(ValueError, match=r"\['layer'\]: used more than once"):
        export(Twice(), torch.randn(2, 4))


@pytest.mark.parametrize("shape", [(1, 6), (1, 3, 6)])
@pytest.mark.parametrize("bias", [True, False])
def test_linears_are_found_whatever_they_are_exported_as(
    shape: tuple[int, ...], bias: bool
) -> None:
    """Two-dimensional inputs become Gemm, others MatMul; a batch of one is still dynamic."""
    network = nn.Sequential(nn.Linear(6, 5, bias=bias), nn.ReLU(), nn.Linear(5, 2))
    template = export_sequential(network, torch.randn(shape))
    assert [layer.name for layer in template.layers] == ["layers.0", "layers.2"]
    x = torch.randn(4, *shape[1:])
    assert_same(Wrapped(network), template, x)


def test_zero_biases_of_the_exporter_are_dropped_from_convolutions() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.ReLU(), nn.Conv2d(4, 2, 1))
    template = export_sequential(network, torch.randn(2, 3, 8, 8))
    inputs = [len(node.input) for node in template.model.graph.node if node.op_type == "Conv"]
    assert inputs == [2, 3]
    assert_same(Wrapped(network), template, torch.randn(3, 3, 8, 8))


class Wrapped(nn.Module):
    def __init__(self, layers: nn.Sequential) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.layers(x)
        return y


def export_sequential(layers: nn.Sequential, x: torch.Tensor) -> Template:
    return export(Wrapped(layers), x)
