"""INT8 weights that are only stored so: sessions decode them when they load and compute in FP32."""

from __future__ import annotations

from onnx import TensorProto

from hardware.formats.format import Format, LayerValues, LayerWriter
from hardware.formats.int8 import INT8, Int8Quantizer


class _Int8WeightOnly(Format):
    name, bits, stored_as, arithmetic = "int8_weight_only", 8, TensorProto.INT8, "fp32"

    def linear(self, layer: LayerValues, to: LayerWriter) -> None:
        to.float_linear(layer, self._decoded(layer, to))

    def convolution(self, layer: LayerValues, to: LayerWriter) -> None:
        x = to.activations.reader(layer.node.input[0])
        to.convolution(layer, x, self._decoded(layer, to))

    def embedding(self, layer: LayerValues, to: LayerWriter) -> None:
        INT8.embedding(layer, to)  # its rows are decoded in FP32 too

    def _decoded(self, layer: LayerValues, to: LayerWriter) -> str:
        """The weight in torch's layout. Operators on constants are folded, other than a
        DequantizeLinear, which would run at every inference."""
        quantized = to.quantized(layer, Int8Quantizer(to.scheme.reduce_range))
        values = quantized.values.reshape(layer.weight.shape)
        scale = quantized.scale.reshape(-1, *[1] * (layer.weight.ndim - 1))
        weight = to.graph.tensor(f"{layer.name}.weight", values)
        wide, decoded = f"{layer.name}/wide", f"{layer.name}/decoded"
        to.graph.node("Cast", [weight], [wide], to=TensorProto.FLOAT)
        scales = to.graph.tensor(f"{layer.name}.scale", scale)
        return to.graph.node("Mul", [wide, scales], [decoded])


INT8_WEIGHT_ONLY = _Int8WeightOnly()
