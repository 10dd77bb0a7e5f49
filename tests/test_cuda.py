"""What needs a GPU and the onnxruntime-gpu wheel; skipped, visibly, where they are not."""

import numpy as np
import onnxruntime
import pytest
import torch

from hardware.attribution import what_ran
from hardware.materialize import arrays, materialize, save_model
from hardware.precision import Precision, QuantPolicy, QuantScheme
from hardware.session import open_session, predict
from hardware.target import Target
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
needs_cuda = pytest.mark.skipif(
    "CUDAExecutionProvider" not in onnxruntime.get_available_providers(),
    reason="needs a GPU and the wheel onnxruntime-gpu",
)


def tensors(inputs: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    return {name: x.numpy() for name, x in inputs.items()}


@pytest.mark.parametrize("sample", [bert, resnet])
def test_fp16_layers_agree_with_torch(sample):
    """On the CPU: the same graph that CUDA runs, half precision emulated."""
    network, template = sample()
    inputs = texts(3, 9) if sample is bert else {"pixel_values": pictures(3)}
    names = [layer.name for layer in template.layers]
    policy = QuantPolicy.uniform(names, Precision.FP16)
    model = materialize(template, arrays(network.state_dict()), policy, QuantScheme())
    found = predict(open_session(model.SerializeToString(), Target()), [tensors(inputs)])
    with torch.no_grad():
        expected = network(**inputs).numpy()
    assert np.linalg.norm(found - expected) < 1e-2 * np.linalg.norm(expected)
    assert sum(tensor.data_type == 10 for tensor in model.graph.initializer) >= len(names)


@needs_cuda
@pytest.mark.parametrize("seed", range(3))
def test_mixed_policies_run_on_the_gpu_and_agree_with_the_cpu(tmp_path, seed):
    _, template = vit()
    rng = np.random.default_rng(seed)
    _, weights = random_vit(rng)
    policy = random_policy(template, weights, rng, ("fp32", "fp16", "int4"))
    save_model(materialize(template, weights, policy, HALF), tmp_path / "model.onnx")
    feed = {"pixel_values": images(8).numpy()}
    path = tmp_path / "model.onnx"
    gpu, cpu = (predict(open_session(path, Target(p)), [feed]) for p in ("cuda", "cpu"))
    assert np.linalg.norm(gpu - cpu) < 2e-2 * np.linalg.norm(cpu)
    what_ran(path, feed, Target("cuda"))
