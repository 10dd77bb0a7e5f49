"""Formats whose products ONNX Runtime takes in integers, of activations rounded to 256 steps."""

from __future__ import annotations

from abc import abstractmethod

from hardware.formats.format import Format, LayerValues, LayerWriter
from hardware.formats.scheme import QuantScheme
from hardware.graph.graph_writer import MICROSOFT
from hardware.graph.layer import LayerKind

INT8_MAX = 127


class IntegerFormat(Format):
    """Linears in the form that the scheme asks for, convolutions in the QDQ form.

    What a subclass writes is how its weights become operands of an integer product.
    """

    integer = True

    @abstractmethod
    def dynamic_product(self, layer: LayerValues, to: LayerWriter, x: list[str]) -> None:
        """The product with an activation given as integers, scale and zero point."""

    @abstractmethod
    def integer_columns(self, layer: LayerValues, to: LayerWriter) -> tuple[str, str]:
        """INT8 integers (in, out), and a scale per output."""

    @abstractmethod
    def dequantized_columns(self, layer: LayerValues, to: LayerWriter) -> str:
        """The same (in, out), dequantized by an operator that sessions fuse with the product."""

    @abstractmethod
    def dequantized_kernel(self, layer: LayerValues, to: LayerWriter) -> str:
        """The same for a convolution's weight, one scale per output channel."""

    def is_static(self, kind: LayerKind, scheme: QuantScheme) -> bool:
        return kind == "conv" or (kind == "linear" and scheme.static)

    def linear(self, layer: LayerValues, to: LayerWriter) -> None:
        if to.scheme.linear == "static":
            self._static_linear(layer, to)
            return
        if to.scheme.linear == "qdq":
            x = to.activations.rounded(layer.node.input[0])
            columns = self.dequantized_columns(layer, to)
            to.graph.node("MatMul", [x, columns], [to.product(layer)])
            to.subtract_bias(layer)
        else:
            self.dynamic_product(layer, to, self._dynamic_activation(layer, to))
            to.add_bias(layer)

    def convolution(self, layer: LayerValues, to: LayerWriter) -> None:
        x = to.activations.rounded(layer.node.input[0])
        to.convolution(layer, x, self.dequantized_kernel(layer, to))

    def _static_linear(self, layer: LayerValues, to: LayerWriter) -> None:
        """One kernel with the bias inside."""
        x, x_scale, x_zero_point = to.activations.quantized(layer.node.input[0])
        weight, scale = self.integer_columns(layer, to)
        bias = "" if layer.bias is None else to.graph.tensor(f"{layer.name}.bias", layer.bias)
        inputs = [x, weight, x_scale, scale, x_zero_point, "", bias]
        to.graph.node("MatMulIntegerToFloat", inputs, layer.node.output, domain=MICROSOFT)

    def _dynamic_activation(self, layer: LayerValues, to: LayerWriter) -> list[str]:
        """Quantize the input once for all layers that read it (query, key and value)."""
        x = to.activations.reader(layer.node.input[0])
        names = [to.graph.shared(f"{x}/{part}") for part in ("integers", "scale", "zero_point")]
        if not to.graph.knows(names[0]):
            to.graph.node("DynamicQuantizeLinear", [x], names)
        return names
