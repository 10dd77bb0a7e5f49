"""Every format of every layer kind, against torch."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from hardware.formats.int4 import INT4
from hardware.formats.int8 import INT8
from hardware.formats.policy import QuantPolicy
from hardware.formats.registry import find_format, ordered
from hardware.formats.scheme import QuantScheme
from hardware.graph.export import export_template
from hardware.graph.graph_writer import GraphWriter
from hardware.graph.static_activations import Ranges
from hardware.graph.template import Template
from hardware.kernel_profile import FallbackError, what_ran
from hardware.session import open_session, predict
from hardware.target import Target
from hardware.writing.activation_ranges import rounding_of
from hardware.writing.calibrate import calibrate
from hardware.writing.materialize import arrays, materialize, save_model
from hardware.writing.size import SizeModel
from hardware.writing.verify import verify
from supernets.layers import fake_quant
from supernets.layers.fake_quantize import fake_quantize
from tests.sample_networks import bert, pictures, resnet, texts


def run(model: onnx.ModelProto, inputs: dict[str, torch.Tensor]) -> np.ndarray:
    onnx.checker.check_model(model, full_check=True)
    feed = {name: x.numpy() for name, x in inputs.items()}
    return predict(open_session(model.SerializeToString(), Target()), [feed])


def uniform(template: Template, precision: str) -> QuantPolicy:
    return QuantPolicy.uniform([layer.name for layer in template.layers], find_format(precision))


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def calibrated(scheme: QuantScheme) -> tuple[Template, dict[str, np.ndarray], Ranges]:
    network, template = resnet()
    weights = arrays(network.state_dict())
    batches = [{"pixel_values": pictures(16, seed).numpy()} for seed in range(4)]
    return template, weights, calibrate(template, weights, scheme, batches)


@pytest.mark.parametrize(
    ("precision", "group_size", "worst"),
    [
        ("fp32", 32, 1e-5),
        ("int8", 32, 0.03),
        ("int4", 16, 0.2),
        ("int4", 64, 0.25),
        ("int3", 16, 0.5),
        ("int2", 16, 1.5),
    ],
)
def test_convolutions_agree_with_torch_and_run_on_integer_kernels(
    tmp_path: Path, precision: str, group_size: int | None, worst: float
) -> None:
    scheme = QuantScheme(group_size=group_size)
    template, weights, ranges = calibrated(scheme)
    policy = uniform(template, precision)
    model = materialize(template, weights, policy, scheme, ranges)
    network, _ = resnet()
    inputs = {"pixel_values": pictures(8)}
    with torch.no_grad():
        expected = network(**inputs).numpy()
    assert relative_error(run(model, inputs), expected) < worst
    verify(model, policy)
    save_model(model, tmp_path / "model.onnx")
    one = {"pixel_values": pictures(1).numpy()}
    ran = what_ran(tmp_path / "model.onnx", one, Target())
    if precision != "fp32":
        operators = [kernel.operator for kernel in ran.kernels]
        assert operators.count("QLinearConv") == sum(x.kind == "conv" for x in template.layers)
        assert operators.count("QLinearAdd") == 4, "residual sums stay in integers"


@pytest.mark.parametrize("seed", range(3))
def test_mixed_convolutions_run_as_asked_and_have_the_predicted_size(
    tmp_path: Path, seed: int
) -> None:
    template, weights, ranges = calibrated(QuantScheme())
    rng = np.random.default_rng(seed)
    names = [layer.name for layer in template.layers]
    policy = QuantPolicy(
        {n: find_format(str(rng.choice(["int8", "int4", "int3", "int2"]))) for n in names}
    )
    model = materialize(template, weights, policy, QuantScheme(), ranges)
    verify(model, policy)
    save_model(model, tmp_path / "model.onnx")
    what_ran(tmp_path / "model.onnx", {"pixel_values": pictures(2).numpy()}, Target())
    out, inputs = np.array([weights[f"{name}.weight"].shape[:2] for name in names]).T
    formats = np.array([ordered().index(policy[name]) for name in names])
    predicted = SizeModel(template, QuantScheme()).file_bytes(
        names, out[None], inputs[None], formats[None]
    )
    assert predicted == (tmp_path / "model.onnx").stat().st_size


def test_a_convolution_without_ranges_is_an_error() -> None:
    template, weights, _ = calibrated(QuantScheme())
    with pytest.raises(ValueError, match="calibrate"):
        materialize(template, weights, uniform(template, "int8"), QuantScheme())


@pytest.mark.parametrize("group_size", [16, 32, 64, None])
@pytest.mark.parametrize("precision", ["fp32", "int8", "int4", "int3", "int2"])
def test_bert_agrees_with_torch_at_any_length(precision: str, group_size: int | None) -> None:
    network, template = bert()
    weights, scheme = arrays(network.state_dict()), QuantScheme(group_size=group_size)
    policy = uniform(template, precision)
    model = materialize(template, weights, policy, scheme)
    assert verify(model, policy).layers == len(template.layers)
    for tokens in (5, 11):
        inputs = texts(3, tokens)
        with torch.no_grad():
            expected = fake_quantize(network, policy, scheme)(**inputs).numpy()
        int4 = 2e-2 if scheme.reduce_range else 1e-2
        worst = {"fp32": 1e-5, "int8": 1e-2, "int4": int4}.get(precision, 4e-2)
        # An activation that lies between two steps may be rounded either way: with few bits
        # behind it that reaches further.
        assert relative_error(run(model, inputs), expected) < worst


@pytest.mark.parametrize("precision", ["int8", "int4", "int3", "int2"])
def test_embedding_rows_equal_fake_quantized_ones(precision: str) -> None:
    network, template = bert()
    weights, scheme = arrays(network.state_dict()), QuantScheme()
    policy = QuantPolicy({"embeddings.word": find_format(precision)})
    model = materialize(template, weights, policy, scheme)
    table = network.get_parameter("embeddings.word.weight")
    ids = torch.arange(len(table))[None]
    rounded = fake_quant.embedding(ids, table, find_format(precision), scheme)[0].detach().numpy()
    replaced = materialize(
        template, {**weights, "embeddings.word.weight": rounded}, QuantPolicy({}), scheme
    )
    inputs = texts(4, 9)
    np.testing.assert_allclose(run(model, inputs), run(replaced, inputs), atol=1e-4)


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("linear", ["static", "qdq"])
@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_static_linears_agree_with_fake_quantization(
    tmp_path: Path, precision: str, linear: Literal["static", "qdq"], known: bool
) -> None:
    """One layer, so that nothing amplifies the last bit; in integers also where ONNX Runtime knows
    all shapes and could make a floating Gemm of product and bias."""
    layer = nn.Linear(96, 40)
    template = one_layer(layer)
    scheme, x = QuantScheme(linear=linear), torch.randn(50, 7, 96)
    weights = arrays(layer_state(layer))
    ranges = calibrate(template, weights, scheme, [{"x": x.numpy()}])
    policy = uniform(template, precision)
    model = materialize(template, weights, policy, scheme, ranges)
    expected = fake_quant.linear(
        x, layer.weight, layer.bias, find_format(precision), scheme, ranges["x"]
    )
    if known:
        for axis, size in enumerate(x.shape):
            model.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = size
    np.testing.assert_allclose(run(model, {"x": x}), expected.detach().numpy(), atol=1e-4)
    verify(model, policy)
    save_model(model, tmp_path / "model.onnx")
    what_ran(tmp_path / "model.onnx", {"x": x.numpy()}, Target())


@pytest.mark.parametrize("inputs", [96, 50])
def test_matmulnbits_agrees_with_fake_quantization(tmp_path: Path, inputs: int) -> None:
    layer = nn.Linear(inputs, 40)
    template = one_layer(layer)
    scheme, x = QuantScheme(int4_kernel="matmulnbits"), torch.randn(3, 7, inputs)
    policy = uniform(template, "int4")
    model = materialize(template, arrays(layer_state(layer)), policy, scheme)
    expected = fake_quant.linear(x, layer.weight, layer.bias, INT4, scheme)
    assert relative_error(run(model, {"x": x}), expected.detach().numpy()) < 1e-2
    verify(model, policy)
    save_model(model, tmp_path / "model.onnx")
    ran = what_ran(tmp_path / "model.onnx", {"x": x.numpy()}, Target())
    assert "MatMulNBits" in {kernel.operator for kernel in ran.kernels}


def test_matmulnbits_refuses_weights_without_groups() -> None:
    layer = nn.Linear(96, 40)
    scheme = QuantScheme(int4_kernel="matmulnbits", group_size=None)
    template = one_layer(layer)
    with pytest.raises(ValueError, match=r"quantization\.group_size"):
        materialize(template, arrays(layer_state(layer)), uniform(template, "int4"), scheme)


def test_what_ran_names_a_layer_that_fell_back_to_float(tmp_path: Path) -> None:
    """Dequantized operands without a quantized result: ONNX Runtime has no INT8 kernel for it."""
    graph = GraphWriter()
    names = ["s", "z", "layer.weight", "layer.weight_scale"]
    values: list[np.ndarray | np.generic] = [
        np.float32(0.1),
        np.uint8(128),
        np.ones((4, 3, 1, 1), np.int8),
        np.ones(4, np.float32),
    ]
    for name, value in zip(names, values, strict=True):
        graph.tensor(name, value)
    graph.node("QuantizeLinear", ["x", "s", "z"], ["q"])
    graph.node("DequantizeLinear", ["q", "s", "z"], ["rounded"])
    graph.node("DequantizeLinear", ["layer.weight", "layer.weight_scale"], ["kernel"], axis=0)
    graph.node("Conv", ["rounded", "kernel"], ["y"])
    for name, value in (("x", graph.graph.input), ("y", graph.graph.output)):
        value.append(
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, None, 4, 4])
        )
    graph.model.ir_version, graph.graph.name = 10, "convolution"
    graph.model.opset_import.add(domain="", version=23)
    verify(graph.model, QuantPolicy({"layer": INT8}))
    save_model(graph.model, tmp_path / "model.onnx")
    feed = {"x": np.zeros((1, 3, 4, 4), np.float32)}
    with pytest.raises(FallbackError, match="layer: stored as int8, ran as"):
        what_ran(tmp_path / "model.onnx", feed, Target())
    ran = what_ran(tmp_path / "model.onnx", feed, Target(), allow_fallback=True)
    assert len(ran.fallbacks) == 1


class OneLayer(nn.Module):
    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.layer(x)
        return y


def one_layer(layer: nn.Linear) -> Template:
    x = torch.zeros(2, 2, layer.in_features)
    return export_template(OneLayer(layer), {"x": x}, dynamic_axes={"x": {0: "batch", 1: "tokens"}})


def layer_state(layer: nn.Linear) -> dict[str, torch.Tensor]:
    return {f"layer.{name}": tensor for name, tensor in layer.state_dict().items()}


@pytest.mark.parametrize("linear", ["dynamic", "static", "qdq"])
@pytest.mark.parametrize("choices", [("int8",), ("fp32", "int8", "int4")])
def test_convolutional_logits_equal_their_imitation(
    choices: tuple[str, ...], linear: Literal["dynamic", "static", "qdq"]
) -> None:
    scheme = QuantScheme(linear=linear)
    template, weights, ranges = calibrated(scheme)
    rng = np.random.default_rng(7)
    names = [layer.name for layer in template.layers]
    policy = QuantPolicy({name: find_format(str(rng.choice(choices))) for name in names})
    model = materialize(template, weights, policy, scheme, ranges)
    network, _ = resnet()
    where = rounding_of(template, weights, policy, scheme, ranges)
    inputs = {"pixel_values": pictures(400)}
    with torch.no_grad():
        fake = fake_quantize(network, policy, scheme, where.inputs, where.outputs)(**inputs).numpy()
    exact = run(model, inputs)
    assert relative_error(fake, exact) < 3e-3
    assert (fake.argmax(1) == exact.argmax(1)).mean() >= 0.995
