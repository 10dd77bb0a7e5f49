"""What needs a GPU, or also the onnxruntime-gpu wheel; skipped, visibly, without them."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from hardware.formats.fp16 import FP16
from hardware.formats.policy import QuantPolicy
from hardware.formats.scheme import QuantScheme
from hardware.graph.template import Template
from hardware.kernel_profile import what_ran
from hardware.session import open_session, predict
from hardware.target import Target
from hardware.writing.materialize import arrays, materialize, save_model
from supernets.data.data import TaskData
from supernets.families.vit.config import VitConfig
from supernets.load import load_data, load_supernet
from supernets.model_settings import ModelSettings
from supernets.settings import DataSettings, SpaceSettings, TuneSettings
from supernets.training.order_by_importance import order_by_importance
from supernets.training.train import score
from supernets.training.tune import InstaTuner
from tests.sample_networks import (
    bert,
    images,
    pictures,
    random_policy,
    random_vit,
    resnet,
    texts,
    vit,
)

HALF = QuantScheme(int4_kernel="matmulnbits")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU torch can use")
needs_cuda = pytest.mark.skipif(
    "CUDAExecutionProvider" not in onnxruntime.get_available_providers(),
    reason="needs a GPU and the wheel onnxruntime-gpu",
)


def tensors(inputs: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    return {name: x.numpy() for name, x in inputs.items()}


@pytest.mark.parametrize("sample", [bert, resnet])
def test_fp16_layers_agree_with_torch(sample: Callable[[], tuple[nn.Module, Template]]) -> None:
    """On the CPU: the same graph that CUDA runs, half precision emulated."""
    network, template = sample()
    inputs = texts(3, 9) if sample is bert else {"pixel_values": pictures(3)}
    names = [layer.name for layer in template.layers]
    policy = QuantPolicy.uniform(names, FP16)
    model = materialize(template, arrays(network.state_dict()), policy, QuantScheme())
    found = predict(open_session(model.SerializeToString(), Target()), [tensors(inputs)])
    with torch.no_grad():
        expected = network(**inputs).numpy()
    assert np.linalg.norm(found - expected) < 1e-2 * np.linalg.norm(expected)
    assert sum(tensor.data_type == 10 for tensor in model.graph.initializer) >= len(names)


@pytest.fixture(scope="module")
def digits() -> tuple[ModelSettings, TaskData]:
    sizes = VitConfig(image_size=16, embed_dim=32, num_heads=4, hidden_dim=64, depth=3)
    model = ModelSettings.from_scratch(sizes)
    data = load_data(DataSettings(name="digits", image_size=16), model)
    return model, data


@needs_gpu
def test_a_gpu_sees_the_same_batches(digits: tuple[ModelSettings, TaskData]) -> None:
    _, data = digits
    found = []
    for device in (torch.device("cpu"), torch.device("cuda")):
        generator = torch.Generator().manual_seed(3)
        found.append(next(data.train.batches(64, generator=generator, device=device)))
    cpu, gpu = found
    assert gpu.inputs["pixel_values"].is_cuda
    torch.testing.assert_close(gpu.inputs["pixel_values"].cpu(), cpu.inputs["pixel_values"])
    assert torch.equal(gpu.rows.cpu(), cpu.rows)


@needs_gpu
def test_tuning_on_a_gpu_agrees_with_the_cpu(digits: tuple[ModelSettings, TaskData]) -> None:
    """Order of units, a few steps of InstaTune, accuracy: all where the settings say."""
    model, data = digits
    tuned, accuracies = [], []
    for name in ("cpu", "cuda"):
        network = load_supernet(model, data, seed=0).network
        settings = TuneSettings(epochs=1, batch_size=250, learning_rate=1e-4, device=name)
        generator, device = torch.Generator().manual_seed(1), torch.device(name)
        batches = data.train.batches(100, generator=generator, device=device)
        order_by_importance(network.to(device), islice(batches, 3))
        space = network.space(SpaceSettings())
        InstaTuner(network, space, data.train, settings, seed=5).run()
        tuned.append(network.state_dict())
        accuracies.append(score(network.to(name), data.validation))
    assert abs(accuracies[0] - accuracies[1]) < 0.01
    for name, tensor in tuned[0].items():
        torch.testing.assert_close(tuned[1][name].cpu(), tensor, rtol=1e-2, atol=1e-3, msg=name)


@needs_cuda
@pytest.mark.parametrize("seed", range(3))
def test_mixed_policies_run_on_the_gpu_and_agree_with_the_cpu(tmp_path: Path, seed: int) -> None:
    _, template = vit()
    rng = np.random.default_rng(seed)
    _, weights = random_vit(rng)
    policy = random_policy(template, weights, rng, ("fp32", "fp16", "int4"))
    save_model(materialize(template, weights, policy, HALF), tmp_path / "model.onnx")
    feed = {"pixel_values": images(8).numpy()}
    path = tmp_path / "model.onnx"
    gpu, cpu = (predict(open_session(path, Target(provider=p)), [feed]) for p in ("cuda", "cpu"))
    assert np.linalg.norm(gpu - cpu) < 2e-2 * np.linalg.norm(cpu)
    what_ran(path, feed, Target(provider="cuda"))
