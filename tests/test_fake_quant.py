from __future__ import annotations

import numpy as np
import pytest
import torch

from hardware.formats.codebook.weights import CodebookQuantizer
from hardware.formats.format import Format
from hardware.formats.int2 import INT2
from hardware.formats.int3 import INT3
from hardware.formats.int4 import INT4
from hardware.formats.int4_weights import Int4Quantizer
from hardware.formats.int8 import INT8, Int8Quantizer
from hardware.formats.scheme import QuantScheme
from hardware.session import open_session, predict
from hardware.target import Target
from hardware.writing.materialize import materialize
from supernets.layers import fake_quant
from supernets.layers.fake_quantize import fake_quantize
from supernets.layers.twins.rounding import activation
from supernets.layers.twins.twin import twin_of
from tests.sample_networks import images, random_policy, random_vit, vit


@pytest.mark.parametrize("inputs", [96, 50])
@pytest.mark.parametrize(("group_size", "reduced"), [(16, False), (32, True), (None, False)])
def test_rounded_weights_equal_the_exporters_to_the_last_bit(
    inputs: int, group_size: int | None, reduced: bool
) -> None:
    weight = torch.randn(40, inputs, generator=torch.Generator().manual_seed(0))
    scheme = QuantScheme(group_size=group_size, reduce_range=reduced)
    int8 = Int8Quantizer(reduced).quantize(weight.numpy())
    decoded = int8.values * int8.scale[:, None]
    assert np.array_equal(decoded, twin_of(INT8).rounded(weight, scheme))
    int4 = Int4Quantizer(group_size, reduced).quantize(weight.numpy())
    decoded = (int4.integers * int4.scale[:, None])[:, :inputs]
    assert np.array_equal(decoded, twin_of(INT4).rounded(weight, scheme))
    for few in (INT2, INT3):
        quantizer = CodebookQuantizer(few.book, group_size, reduced)
        coded = quantizer.quantize(weight.numpy())
        decoded = quantizer.integers(coded, inputs) * coded.scale[:, None]
        assert np.array_equal(decoded, twin_of(few).rounded(weight, scheme))


@pytest.mark.parametrize(("seed", "group_size"), [(0, 32), (1, 16), (2, 64), (3, None)])
def test_logits_equal_onnxruntimes_over_random_candidates_and_policies(
    seed: int, group_size: int | None
) -> None:
    _, template = vit()
    rng, scheme = np.random.default_rng(seed), QuantScheme(group_size=group_size)
    network, weights = random_vit(rng)
    policy = random_policy(template, weights, rng, ("fp32", "int8", "int4", "int3", "int2"))
    model = materialize(template, weights, policy, scheme)
    x = images(400)
    session = open_session(model.SerializeToString(), Target())
    exact = predict(session, [{"pixel_values": x.numpy()}])
    with torch.no_grad():
        fake = fake_quantize(network, policy, scheme)(x).numpy()
    assert np.linalg.norm(fake - exact) <= 1e-2 * np.linalg.norm(exact)
    assert (fake.argmax(1) == exact.argmax(1)).mean() >= 0.995


@pytest.mark.parametrize("precision", [INT8, INT4, INT2])
def test_gradients_pass_straight_through(precision: Format) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(6, 32, generator=generator, requires_grad=True)
    weight = torch.randn(8, 32, generator=generator, requires_grad=True)
    y = fake_quant.linear(x, weight, None, precision, QuantScheme())
    y.sum().backward()
    rounded_x = activation(x.detach())
    rounded_weight = twin_of(precision).rounded(weight.detach(), QuantScheme())
    assert weight.grad is not None
    assert x.grad is not None
    torch.testing.assert_close(weight.grad, rounded_x.sum(0).expand(8, 32))
    torch.testing.assert_close(x.grad, rounded_weight.sum(0).expand(6, 32))
