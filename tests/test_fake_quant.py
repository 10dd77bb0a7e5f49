from __future__ import annotations

import numpy as np
import pytest
import torch

from hardware.formats import quantize
from hardware.formats.precision import Precision, QuantScheme
from hardware.session import open_session, predict
from hardware.target import Target
from hardware.writing.materialize import materialize
from supernets.layers import fake_quant
from supernets.layers.fake_quantize import fake_quantize
from tests.sample_networks import images, random_policy, random_vit, vit

CONSTANTS = ["INT4_MIN", "INT4_MAX", "INT8_MAX", "INT8_MAX_REDUCED", "MULTIPLIER_MAX"]


@pytest.mark.parametrize("name", [*CONSTANTS, "MULTIPLIER_MAX_REDUCED", "SHRINKS"])
def test_constants_equal_the_exporters(name: str) -> None:
    assert getattr(fake_quant, name) == getattr(quantize, name)


@pytest.mark.parametrize("inputs", [96, 50])
@pytest.mark.parametrize(("group_size", "reduced"), [(16, False), (32, True), (None, False)])
def test_rounded_weights_equal_the_exporters_to_the_last_bit(
    inputs: int, group_size: int | None, reduced: bool
) -> None:
    weight = torch.randn(40, inputs, generator=torch.Generator().manual_seed(0))
    int8 = quantize.int8_weight(weight.numpy(), reduced)
    assert np.array_equal(
        int8.values * int8.scale[:, None], fake_quant.int8_weight(weight, reduced)
    )
    int4 = quantize.int4_weight(weight.numpy(), group_size, reduced)
    decoded = (int4.integers * int4.scale[:, None])[:, :inputs]
    assert np.array_equal(decoded, fake_quant.int4_weight(weight, group_size, reduced))


@pytest.mark.parametrize(("seed", "group_size"), [(0, 32), (1, 16), (2, 64), (3, None)])
def test_logits_equal_onnxruntimes_over_random_candidates_and_policies(
    seed: int, group_size: int | None
) -> None:
    _, template = vit()
    rng, scheme = np.random.default_rng(seed), QuantScheme(group_size=group_size)
    network, weights = random_vit(rng)
    policy = random_policy(template, weights, rng, ("fp32", "int8", "int4"))
    model = materialize(template, weights, policy, scheme)
    x = images(400)
    session = open_session(model.SerializeToString(), Target())
    exact = predict(session, [{"pixel_values": x.numpy()}])
    with torch.no_grad():
        fake = fake_quantize(network, policy, scheme)(x).numpy()
    assert np.linalg.norm(fake - exact) <= 1e-2 * np.linalg.norm(exact)
    assert (fake.argmax(1) == exact.argmax(1)).mean() >= 0.995


@pytest.mark.parametrize("precision", [Precision.INT8, Precision.INT4])
def test_gradients_pass_straight_through(precision: Precision) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(6, 32, generator=generator, requires_grad=True)
    weight = torch.randn(8, 32, generator=generator, requires_grad=True)
    y = fake_quant.linear(x, weight, None, precision, QuantScheme())
    y.sum().backward()
    rounded_x = fake_quant.activation(x.detach())
    rounded_weight = fake_quant.quantized_weight(weight.detach(), precision, QuantScheme())
    assert weight.grad is not None
    assert x.grad is not None
    torch.testing.assert_close(weight.grad, rounded_x.sum(0).expand(8, 32))
    torch.testing.assert_close(x.grad, rounded_weight.sum(0).expand(6, 32))
