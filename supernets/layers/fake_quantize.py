"""A plain network that computes what its exported ONNX model computes."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import partial

from torch import Tensor, nn

from hardware.formats.format import Format
from hardware.formats.fp32 import FP32
from hardware.formats.scheme import QuantScheme
from supernets.layers import fake_quant
from supernets.layers.elastic import ScaledLinear
from supernets.layers.twins.rounding import Range, activation


class FakeQuantized(nn.Module):
    """One layer in a low precision; `x_range` where its input is rounded to a calibrated range,
    `served` the batch entries that share a dynamic range."""

    def __init__(
        self,
        layer: nn.Module,
        precision: Format,
        scheme: QuantScheme,
        x_range: Range | None,
        served: int | None,
    ) -> None:
        super().__init__()
        self.layer, self.precision, self.scheme = layer, precision, scheme
        self.x_range, self.served = x_range, served

    def forward(self, x: Tensor) -> Tensor:
        """What the layer's kernel in ONNX Runtime returns."""
        layer, precision, scheme = self.layer, self.precision, self.scheme
        if isinstance(layer, nn.Embedding):
            return fake_quant.embedding(x, layer.weight, precision, scheme)
        if not precision.integer and self.x_range is not None:
            x = activation(x, self.x_range, symmetric=scheme.linear == "qdq")
        if isinstance(layer, nn.Conv2d):
            assert isinstance(layer.padding, tuple)
            return fake_quant.conv2d(
                x, layer.weight, layer.bias, precision, scheme, self.x_range,
                stride=(layer.stride[0], layer.stride[1]),
                padding=(layer.padding[0], layer.padding[1]), groups=layer.groups,
            )  # fmt: skip
        assert isinstance(layer, nn.Linear), f"{type(layer).__name__} has no low precision"
        y = fake_quant.linear(
            x, layer.weight, layer.bias, precision, scheme, self.x_range, self.served
        )
        return layer.scale.numbers(y) if isinstance(layer, ScaledLinear) else y


def fake_quantize(
    network: nn.Module,
    policy: Mapping[str, Format],
    scheme: QuantScheme,
    input_ranges: Mapping[str, Range] | None = None,
    output_ranges: Mapping[str, Range] | None = None,
    served: int | None = None,
) -> nn.Module:
    """A copy of an extracted network under a policy, in fake quantization.

    The ranges are those of `hardware.rounding`: of layers' inputs and of modules' outputs, by
    path. Dynamic layers need none. Every `served` entries of a batch are quantized together, as the
    exported model does with the batches it is served; by default all of them.
    """
    network, ranges = copy.deepcopy(network), dict(input_ranges or {})
    for path in sorted({*policy, *ranges}):
        precision = policy.get(path, FP32)
        layer = network.get_submodule(path)
        imitation = FakeQuantized(layer, precision, scheme, ranges.get(path), served)
        network.set_submodule(path, imitation)
    for path, value_range in (output_ranges or {}).items():
        hook = partial(_round_output, value_range, scheme.linear == "qdq")
        network.get_submodule(path).register_forward_hook(hook)
    return network


def _round_output(
    value_range: Range, symmetric: bool, module: nn.Module, inputs: object, output: Tensor
) -> Tensor:
    return activation(output, value_range, symmetric=symmetric)
