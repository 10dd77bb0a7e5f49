"""FP16 weights and arithmetic between FP32 activations, for GPUs."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from hardware.formats.format import Format, LayerValues, LayerWriter


class _Fp16(Format):
    name, bits, stored_as, arithmetic = "fp16", 16, TensorProto.FLOAT16, "fp16"

    def linear(self, layer: LayerValues, to: LayerWriter) -> None:
        name, half = layer.name, f"{layer.name}/float16"
        weight, *bias = self._parameters(layer, to)
        x = self._activation(layer, to)
        columns = to.graph.node("Transpose", [weight], [f"{name}/columns"], perm=[1, 0])
        product = f"{name}/product" if bias else half
        to.graph.node("MatMul", [x, columns], [product])
        if bias:
            to.graph.node("Add", [product, *bias], [half])
        self._widened(layer, to)

    def convolution(self, layer: LayerValues, to: LayerWriter) -> None:
        parameters = self._parameters(layer, to)
        inputs = [self._activation(layer, to), *parameters]
        to.copied(layer.node, inputs, f"{layer.name}/float16")
        self._widened(layer, to)

    def embedding(self, layer: LayerValues, to: LayerWriter) -> None:
        (weight,) = self._parameters(layer, to)
        to.graph.node("Gather", [weight, layer.node.input[1]], [f"{layer.name}/float16"])
        self._widened(layer, to)

    def _parameters(self, layer: LayerValues, to: LayerWriter) -> list[str]:
        arrays = {"weight": layer.weight} | ({} if layer.bias is None else {"bias": layer.bias})
        halves = {f"{layer.name}.{name}": a.astype(np.float16) for name, a in arrays.items()}
        return [to.graph.tensor(name, half) for name, half in halves.items()]

    def _activation(self, layer: LayerValues, to: LayerWriter) -> str:
        """Cast the input once for all layers that read it."""
        x = to.activations.reader(layer.node.input[0])
        half = to.graph.shared(f"{x}/float16")
        if not to.graph.knows(half):
            to.graph.node("Cast", [x], [half], to=TensorProto.FLOAT16)
        return half

    def _widened(self, layer: LayerValues, to: LayerWriter) -> None:
        to.graph.node("Cast", [f"{layer.name}/float16"], layer.node.output, to=TensorProto.FLOAT)


FP16 = _Fp16()
