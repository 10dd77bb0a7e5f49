"""Convolutional families where the contract of all families does not reach."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from transformers import (
    ConvNextConfig,
    ConvNextForImageClassification,
    MobileNetV2Config,
    MobileNetV2ForImageClassification,
)

from hardware.formats.int2 import INT2
from hardware.formats.int4 import INT4
from hardware.formats.int4_weights import Int4Quantizer
from hardware.formats.int8 import INT8, Int8Quantizer
from hardware.formats.policy import QuantPolicy
from hardware.formats.scheme import QuantScheme
from hardware.writing.activation_ranges import rounding_of
from hardware.writing.calibrate import calibrate
from hardware.writing.materialize import arrays, materialize
from nas.evaluation.candidate_builder import template_of
from supernets.families.inverted_residual.sizes import same_pads
from supernets.layers.fake_quantize import fake_quantize
from supernets.settings import SpaceSettings
from tests.family_models import CONVNEXT_SIZES, MOBILENET_SIZES, config_of
from tests.sample_supernets import batch, build
from tests.test_checkpoints_hf import load


@pytest.mark.parametrize("size", range(33, 39))
@pytest.mark.parametrize("tf_padding", [True, False])
def test_mobilenet_pads_as_transformers_at_every_size(
    size: int, tf_padding: bool, tmp_path: Path
) -> None:
    torch.manual_seed(size)
    sizes = {**MOBILENET_SIZES, "image_size": size, "tf_padding": tf_padding}
    if size % 2:
        sizes["first_layer_is_expansion"] = False
    model = MobileNetV2ForImageClassification(MobileNetV2Config(**sizes)).eval()
    model.save_pretrained(tmp_path)
    pixels = torch.randn(2, 3, size, size)
    network = load(tmp_path, names=[f"LABEL_{n}" for n in range(5)]).network
    with torch.no_grad():
        torch.testing.assert_close(network(pixels), model(pixels).logits, atol=1e-5, rtol=1e-5)


def test_same_padding_by_its_definition() -> None:
    """As many outputs as strides begin in the image, of windows that hang over as little."""
    for side in range(1, 12):
        for kernel in (1, 3, 5):
            for stride in (1, 2):
                before, behind = same_pads(side, kernel, stride)
                outputs = (side + before + behind - kernel) // stride + 1
                assert outputs == -(-side // stride)
                assert before <= behind <= before + 1
                reach = (outputs - 1) * stride + kernel
                assert before + behind == max(0, reach - side)


def test_convnext_without_layer_scale(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = ConvNextConfig(**CONVNEXT_SIZES, layer_scale_init_value=0.0)
    model = ConvNextForImageClassification(config).eval()
    model.save_pretrained(tmp_path)
    pixels = torch.randn(2, 3, 20, 20)
    network = load(tmp_path, names=[f"LABEL_{n}" for n in range(5)]).network
    with torch.no_grad():
        torch.testing.assert_close(network(pixels), model(pixels).logits, atol=1e-5, rtol=1e-5)


def test_each_layer_alone_rounds_as_onnx_runtime() -> None:
    """One layer of every kind at a time: no rounding of another one hides or adds to its own."""
    network, scheme = build(config_of("mobilenet_v2")), QuantScheme()
    template = template_of(network, network.space(SpaceSettings()))
    inputs = batch(network).inputs
    feed = {name: tensor.numpy() for name, tensor in inputs.items()}
    plain = network.deploy()
    weights = arrays(plain.state_dict())
    ranges = calibrate(template, weights, scheme, [feed])
    with torch.no_grad():
        exact = plain(**inputs).numpy()
    names = ("stem.conv", *(f"blocks.2.{part}_conv" for part in ("expand", "depthwise", "project")))
    for name, precision in itertools.product((*names, "top.conv"), (INT8, INT4, INT2)):
        policy = QuantPolicy({name: precision})
        model = materialize(template, weights, policy, scheme, ranges)
        where = rounding_of(template, weights, policy, scheme, ranges)
        twin = fake_quantize(plain, policy, scheme, where.inputs, where.outputs)
        with torch.no_grad():
            imitated = twin(**inputs).numpy()
        session = onnxruntime.InferenceSession(model.SerializeToString())
        found = session.run(None, feed)[0]
        moved = np.abs(imitated - exact).max()
        assert moved > 0, name
        np.testing.assert_allclose(found, imitated, atol=max(0.05 * moved, 1e-5), err_msg=name)


def test_int4_depthwise_kernels_take_fewer_bytes_than_int8() -> None:
    kernels = np.random.default_rng(0).normal(size=(64, 9)).astype(np.float32)
    int4, int8 = Int4Quantizer(32).quantize(kernels), Int8Quantizer().quantize(kernels)
    assert sum(array.nbytes for array in int4) < sum(array.nbytes for array in int8)
