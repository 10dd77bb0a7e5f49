"""FP32: weights as they were trained."""

from __future__ import annotations

from onnx import TensorProto

from hardware.formats.format import Format, LayerValues, LayerWriter


class _Fp32(Format):
    name, bits, stored_as, arithmetic = "fp32", 32, TensorProto.FLOAT, "fp32"

    def linear(self, layer: LayerValues, to: LayerWriter) -> None:
        to.float_linear(layer, self._weight(layer, to))

    def convolution(self, layer: LayerValues, to: LayerWriter) -> None:
        x = to.activations.reader(layer.node.input[0])
        to.convolution(layer, x, self._weight(layer, to))

    def embedding(self, layer: LayerValues, to: LayerWriter) -> None:
        inputs = [self._weight(layer, to), layer.node.input[1]]
        to.graph.node("Gather", inputs, layer.node.output)

    def _weight(self, layer: LayerValues, to: LayerWriter) -> str:
        return to.graph.tensor(f"{layer.name}.weight", layer.weight)


FP32 = _Fp32()
