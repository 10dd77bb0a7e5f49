"""Elastic layers: largest equals plain, active equals extracted, inactive strips untouched."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hardware.formats.format import Format
from hardware.formats.fp32 import FP32
from hardware.formats.int4 import INT4
from hardware.formats.int8 import INT8
from hardware.formats.scheme import QuantScheme
from supernets.layers import fake_quant
from supernets.layers.attention import ElasticAttention
from supernets.layers.elastic import (
    ElasticBatchNorm2d,
    ElasticConv2d,
    ElasticEmbedding,
    ElasticLayerNorm,
    ElasticLinear,
)
from supernets.layers.twins.twin import Rounding, twin_of

X = torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(0))
IMAGE = torch.randn(3, 8, 6, 6, generator=torch.Generator().manual_seed(0))

LAYERS = [
    pytest.param(lambda: ElasticLinear(8, 6), (4, 3), X, (slice(3), slice(4)), id="linear"),
    pytest.param(
        lambda: ElasticLinear(8, 6, bias=False),
        (4, 3),
        X,
        (slice(3), slice(4)),
        id="linear-no-bias",
    ),
    pytest.param(lambda: ElasticLayerNorm(8, 1e-6), (4,), X, (slice(4),), id="layer-norm"),
    pytest.param(
        lambda: ElasticConv2d(8, 6, 3, 2), (4, 3), IMAGE, (slice(3), slice(4)), id="convolution"
    ),
    pytest.param(
        lambda: ElasticConv2d(8, 8, 3, groups=8, bias=True),
        (4, 4),
        IMAGE,
        (slice(4),),
        id="depthwise",
    ),
    pytest.param(
        lambda: ElasticConv2d(8, 16, 2, 2, padding=0, groups=4),
        (4, 8),
        IMAGE,
        (slice(8),),
        id="groups",
    ),
    pytest.param(lambda: ElasticBatchNorm2d(8), (4,), IMAGE, (slice(4),), id="batch-norm"),
]


def randomised(layer: Any) -> Any:
    with torch.no_grad():
        for name, tensor in layer.state_dict().items():
            if tensor.ndim:
                tensor.normal_()
                if name == "running_var":
                    tensor.abs_()
    return layer.eval()


def narrowed(layer: Any, sizes: tuple[int, ...], x: Tensor) -> Tensor:
    layer.active_out = sizes[-1]
    if len(sizes) > 1 and getattr(layer, "groups", 1) == 1:
        layer.active_in = sizes[0]
    return x[:, : sizes[0]] if x is IMAGE else x[..., : sizes[0]]


@pytest.mark.parametrize(("build", "sizes", "x", "strip"), LAYERS)
def test_largest_equals_the_plain_layer(
    build: Callable[[], nn.Module], sizes: tuple[int, ...], x: Tensor, strip: tuple[slice, ...]
) -> None:
    layer = randomised(build())
    plain = layer.extract().eval()
    assert type(plain) in (nn.Linear, nn.LayerNorm, nn.Conv2d, nn.BatchNorm2d)
    assert plain.state_dict().keys() == layer.state_dict().keys()
    torch.testing.assert_close(layer(x), plain(x))


@pytest.mark.parametrize(("build", "sizes", "x", "strip"), LAYERS)
def test_active_equals_extracted(
    build: Callable[[], nn.Module], sizes: tuple[int, ...], x: Tensor, strip: tuple[slice, ...]
) -> None:
    layer = randomised(build())
    narrow = narrowed(layer, sizes, x)
    torch.testing.assert_close(layer(narrow), layer.extract().eval()(narrow))


@pytest.mark.parametrize(("build", "sizes", "x", "strip"), LAYERS)
def test_inactive_strips_get_no_gradient(
    build: Callable[[], nn.Module], sizes: tuple[int, ...], x: Tensor, strip: tuple[slice, ...]
) -> None:
    layer = randomised(build())
    narrow = narrowed(layer, sizes, x)
    layer(narrow).square().sum().backward()
    gradient = layer.weight.grad.clone()
    assert (gradient[strip] != 0).all()
    gradient[strip] = 0
    assert (gradient == 0).all()


def test_extracted_weights_are_copies() -> None:
    layer = ElasticLinear(8, 6)
    layer.extract().weight.data.zero_()
    assert (layer.weight != 0).any()


def test_embedding_equals_the_plain_layer() -> None:
    layer, ids = ElasticEmbedding(5, 4), torch.tensor([[1, 4], [0, 2]])
    torch.testing.assert_close(layer(ids), layer.extract()(ids))


@pytest.mark.parametrize("precision", [FP32, INT8])
def test_a_shortcut_that_skips_pixels_has_the_gradients_of_a_convolution(precision: Format) -> None:
    """At sizes where those of torch's own, with channels last, write outside of their memory."""
    torch.manual_seed(0)
    layer = ElasticConv2d(12, 20, 1, stride=2)
    layer.precision = precision
    layer.weight.data = layer.weight.data.contiguous(memory_format=torch.channels_last)
    pixels = torch.randn(2, 12, 112, 112).contiguous(memory_format=torch.channels_last)
    x, kernel = pixels.clone().requires_grad_(), layer.weight.detach().contiguous().requires_grad_()
    layer(x).square().mean().backward()
    plain = pixels.contiguous().requires_grad_()
    how = Rounding(QuantScheme())
    operands = twin_of(precision).operands(plain, kernel.flatten(1), how)
    F.conv2d(operands[0], operands[1].view_as(kernel), stride=2).square().mean().backward()
    assert layer.weight.grad is not None
    torch.testing.assert_close(layer.weight.grad, kernel.grad, atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(x.grad, plain.grad, atol=1e-6, rtol=1e-4)


def test_sub_network_leaves_running_statistics_alone() -> None:
    norm = ElasticBatchNorm2d(8).train()
    norm.track = False
    norm(IMAGE)
    assert norm.running_mean is not None
    assert norm.running_mean.eq(0).all()
    norm.track = True
    norm(IMAGE)
    assert norm.running_mean.ne(0).all()


@pytest.mark.parametrize("precision", [INT8, INT4])
def test_precision_acts_on_the_active_slice(precision: Format) -> None:
    scheme = QuantScheme(group_size=None)
    layer = ElasticLinear(8, 6)
    x = narrowed(layer, (4, 3), X)
    layer.precision, layer.scheme = precision, scheme
    weight, bias = layer.active_parameters()
    torch.testing.assert_close(layer(x), fake_quant.linear(x, weight, bias, precision, scheme))
    assert not torch.equal(layer(x), layer.extract()(x))


def test_precision_of_a_convolution_acts_on_the_active_slice() -> None:
    layer, scheme = ElasticConv2d(8, 6, 3, 2), QuantScheme()
    x = narrowed(layer, (4, 3), IMAGE)
    layer.precision = INT8
    expected = fake_quant.conv2d(x, layer.weight[:3, :4], None, INT8, scheme, stride=2, padding=1)
    torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize("masked", [False, True])
def test_attention_in_bfloat16_is_the_fused_one_to_its_precision(masked: bool) -> None:
    attention = randomised(ElasticAttention(8, 2, 4))
    mask = torch.arange(5).lt(torch.tensor([[5], [3], [1]]))[:, None, None] if masked else None
    with torch.no_grad():
        expected = attention(X, mask)
        with torch.autocast("cpu", torch.bfloat16):
            given = attention(X, mask)
    assert given.dtype == torch.bfloat16
    assert (given.float() - expected).norm() < 0.05 * expected.norm()
