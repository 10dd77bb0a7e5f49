"""A second format of 8 bits: nothing tells it from `int8` but the object."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from hardware.formats.int8 import INT8
from hardware.formats.int8_weight_only import INT8_WEIGHT_ONLY
from hardware.formats.policy import QuantPolicy
from hardware.formats.registry import ordered
from hardware.formats.scheme import QuantScheme
from hardware.graph.template import Template
from hardware.kernel_profile import what_ran
from hardware.session import open_session, predict
from hardware.target import Target
from hardware.writing.materialize import Weights, arrays, materialize, save_model
from hardware.writing.size import SizeModel
from hardware.writing.verify import PolicyError, read_policy, verify
from nas.experiment.load import load_experiment
from nas.ledger.study import read_evaluations
from nas.pipeline import run
from nas.run.run_folder import RunFolder
from supernets.layers.fake_quantize import fake_quantize
from tests.conftest import LITTLE
from tests.sample_networks import (
    bert,
    images,
    layers_of,
    pictures,
    random_policy,
    random_vit,
    resnet,
    texts,
    vit,
)
from tests.test_pipeline import Silent, Write

SCHEME = QuantScheme()
Case = tuple[nn.Module, Template, dict[str, torch.Tensor]]


def case(family: str) -> Case:
    """A network with linears, convolutions or embeddings, its template, and inputs."""
    if family == "vit":
        return random_vit(np.random.default_rng(0))[0], vit()[1], {"pixel_values": images(8)}
    network, template = bert() if family == "bert" else resnet()
    return network, template, texts(3, 9) if family == "bert" else {"pixel_values": pictures(8)}


@pytest.mark.parametrize("family", ["vit", "bert", "resnet"])
def test_its_twin_computes_what_onnxruntime_computes(tmp_path: Path, family: str) -> None:
    network, template, inputs = case(family)
    weights = arrays(network.state_dict())
    policy = QuantPolicy.uniform(layers_of(template, weights), INT8_WEIGHT_ONLY)
    model = materialize(template, weights, policy, SCHEME)
    feed = {name: tensor.numpy() for name, tensor in inputs.items()}
    exact = predict(open_session(model.SerializeToString(), Target()), [feed])
    with torch.no_grad():
        plain, fake = network(**inputs), fake_quantize(network, policy, SCHEME)(**inputs)
    np.testing.assert_allclose(fake.numpy(), exact, rtol=1e-3, atol=1e-4 * np.abs(exact).max())
    assert not np.allclose(plain.numpy(), exact, rtol=1e-3, atol=1e-4 * np.abs(exact).max())
    coverage = verify(model, policy)
    assert coverage.low_precision_layers == coverage.layers == len(policy)
    save_model(model, tmp_path / "model.onnx")
    operators = {k.operator for k in what_ran(tmp_path / "model.onnx", feed, Target()).kernels}
    assert not {"DequantizeLinear", "MatMulInteger", "DynamicQuantizeMatMul"} & operators


def test_it_reads_back_as_itself_and_neither_is_taken_for_the_other() -> None:
    network, template, _ = case("vit")
    weights = arrays(network.state_dict())
    for written, asked in ((INT8, INT8_WEIGHT_ONLY), (INT8_WEIGHT_ONLY, INT8)):
        policy = QuantPolicy({"head": written})
        model = materialize(template, weights, policy, SCHEME)
        assert read_policy(model)["head"] is written
        verify(model, policy)
        with pytest.raises(PolicyError, match=f"head: asked {asked}, found int8"):
            verify(model, QuantPolicy({"head": asked}))


def columns(
    names: list[str], weights: Weights, policy: QuantPolicy
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sizes and formats as `SizeModel` takes them, one row."""
    shapes = np.array([weights[f"{name}.weight"].shape[:2] for name in names])
    formats = np.array([ordered().index(policy[name]) for name in names])
    return shapes[None, :, 0], shapes[None, :, 1], formats[None]


@pytest.mark.parametrize("seed", range(3))
def test_sizes_are_exact_beside_the_other_format_of_eight_bits(seed: int) -> None:
    _, template = vit()
    network, _ = vit()
    network.activate({})
    weights = arrays(network.extract().state_dict())
    choices = ("fp32", "int8", "int8_weight_only", "int4")
    policy = random_policy(template, weights, np.random.default_rng(seed), choices)
    written = len(materialize(template, weights, policy, SCHEME).SerializeToString())
    names = list(policy)
    sizes = SizeModel(template, SCHEME).file_bytes(names, *columns(names, weights, policy))
    assert sizes == written


def test_a_search_chooses_between_both(experiment_file: Write, tmp_path: Path) -> None:
    space = {"precision": {"*": ["int8", "int8_weight_only", "fp32"]}}
    path = experiment_file(**LITTLE, space=space)
    experiment, folder = load_experiment(path), RunFolder(tmp_path / "out")
    front = run(experiment, folder, Silent())
    used = {
        entry
        for evaluation in read_evaluations(experiment, folder)
        for entry in evaluation.candidate.policy.values()
    }
    assert used >= {INT8, INT8_WEIGHT_ONLY}
    assert front.models
