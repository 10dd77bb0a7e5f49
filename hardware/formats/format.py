"""What a format is: how a layer's weights are stored, written into a graph, and read back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import onnx

from hardware.formats.error_feedback import GroupQuantizer
from hardware.formats.scheme import Arithmetic, Int4Kernel, Linear, QuantScheme
from hardware.formats.weight_memo import Floats, Quantizer, WeightMemo, WeightT
from hardware.graph.graph_writer import GraphWriter
from hardware.graph.layer import LayerKind
from hardware.graph.static_activations import StaticActivations


@dataclass(frozen=True)
class LayerValues:
    """One layer of a candidate: its template node and its parameters in the torch layout."""

    name: str
    kind: LayerKind
    node: onnx.NodeProto
    weight: Floats
    bias: Floats | None

    @property
    def matrix(self) -> Floats:
        """The weight as (out, everything that one output sums over)."""
        return self.weight.reshape(len(self.weight), -1)


@dataclass(frozen=True)
class LayerWriter:
    """Where layers are written to, under one scheme; what every format's writers share."""

    graph: GraphWriter
    scheme: QuantScheme
    memo: WeightMemo
    activations: StaticActivations

    def quantized(self, layer: LayerValues, quantizer: Quantizer[WeightT]) -> WeightT:
        """The layer's weight as integers and scales."""
        return self.memo.recall(layer.name, layer.matrix, quantizer)

    def product(self, layer: LayerValues) -> str:
        """Name of a linear layer's product, before the bias is added."""
        output = str(layer.node.output[0])
        return output if layer.bias is None else self.graph.inner(f"{output}/product")

    def add_bias(self, layer: LayerValues) -> None:
        """Add the FP32 bias to the product."""
        if layer.bias is not None:
            bias = self.graph.tensor(f"{layer.name}.bias", layer.bias)
            self.graph.node("Add", [self.product(layer), bias], layer.node.output)

    def subtract_bias(self, layer: LayerValues) -> None:
        """Subtract the negated bias from a product of dequantized operands: the same number, and
        sessions keep the product in integers. Of product and `Add`, ONNX Runtime 1.23 and newer
        make a floating Gemm where they know the shapes, ten times slower."""
        if layer.bias is not None:
            bias = self.graph.tensor(f"{layer.name}/negated_bias", -layer.bias)
            self.graph.node("Sub", [self.product(layer), bias], layer.node.output)

    def float_linear(self, layer: LayerValues, weight: str) -> None:
        """A product in FP32 with a weight in torch's layout; sessions fold the Transpose when they
        load."""
        columns = self.graph.node("Transpose", [weight], [f"{layer.name}/columns"], perm=[1, 0])
        x = self.activations.reader(layer.node.input[0])
        self.graph.node("MatMul", [x, columns], [self.product(layer)])
        self.add_bias(layer)

    def convolution(self, layer: LayerValues, x: str, weight: str) -> None:
        """The template's convolution between other values, with an FP32 bias."""
        bias = [] if layer.bias is None else [self.graph.tensor(f"{layer.name}.bias", layer.bias)]
        self.copied(layer.node, [x, weight, *bias], layer.node.output[0])

    def copied(self, node: onnx.NodeProto, inputs: list[str], output: str) -> None:
        """Append the template's node, its attributes kept, between other values."""
        written = onnx.NodeProto()
        written.CopyFrom(node)
        written.input[:], written.output[:] = inputs, [output]
        self.graph.copy(written)


class StoredLayer(NamedTuple):
    """What a written graph holds of one layer.

    data_type: ONNX's type of the stored tensor, whose values take `stored_bits` in all.
    operator: consumes the weight; `integer` if in integer arithmetic, `lookup` if it only picks.
    decoder: a constant that packed weights are decoded with, None where nothing is packed.
    constant: no input reaches it, so that sessions compute it once, when they load.
    """

    data_type: int
    stored_bits: int
    operator: str
    integer: bool
    lookup: bool
    decoder: str | None = None
    constant: bool = False


class Variant(NamedTuple):
    """One way to realise a format, for these kinds of layers."""

    name: str
    scheme: QuantScheme
    kinds: tuple[LayerKind, ...] = ("linear", "conv", "embedding")


class Format(ABC):
    """How a layer's weights are stored and its product computed.

    One object per format, a global of its module named like it in capitals: policies hold the
    object, files its name. Never tell formats by `bits`: two may have as many.
    """

    name: str
    bits: int
    """Bits per stored weight, scales not counted."""
    stored_as: int
    """ONNX's type of the stored weights."""
    arithmetic: Arithmetic
    """What products are taken in: a provider that can do that can run the format."""
    integer: bool = False
    """Whether that is in integers, of rounded activations."""
    decoder: str | None = None
    """Name of a constant that its packed weights are decoded with."""

    def __str__(self) -> str:
        return self.name

    __repr__ = __str__

    def __reduce__(self) -> str:
        return self.name.upper()  # copies and other processes have the same object

    @property
    def order(self) -> tuple[int, bool, str]:
        """Formats sort from small to large, of equal sizes the faster one first."""
        return self.bits, not self.integer, self.name

    def write(self, layer: LayerValues, to: LayerWriter) -> None:
        """Append the layer's nodes and tensors. Raises ValueError for what the scheme rules out."""
        {"linear": self.linear, "conv": self.convolution, "embedding": self.embedding}[layer.kind](
            layer, to
        )

    @abstractmethod
    def linear(self, layer: LayerValues, to: LayerWriter) -> None:
        """Write a linear layer, weight (out, in)."""

    @abstractmethod
    def convolution(self, layer: LayerValues, to: LayerWriter) -> None:
        """Write a convolution, weight (out, in, height, width)."""

    @abstractmethod
    def embedding(self, layer: LayerValues, to: LayerWriter) -> None:
        """Write a lookup, weight (vocabulary, width)."""

    def is_static(self, kind: LayerKind, scheme: QuantScheme) -> bool:
        """Whether such a layer's input is rounded to a calibrated range."""
        return False

    def in_groups(self, kind: LayerKind, scheme: QuantScheme) -> GroupQuantizer | None:
        """What rounds such a layer's weights in groups, where they have so few bits."""
        return None

    def reads_back(self, stored: StoredLayer) -> bool:
        """Whether a written layer has this format; a lookup takes no product to tell it by."""
        same_product = stored.lookup or stored.integer == self.integer
        same_storage = (stored.data_type, stored.decoder) == (self.stored_as, self.decoder)
        return same_storage and same_product

    def variants(
        self, linears: tuple[Linear, ...], int4_kernels: tuple[Int4Kernel, ...]
    ) -> tuple[Variant, ...]:
        """All ways to realise it where linears and INT4 can be realised so."""
        return (Variant(self.name, QuantScheme()),)
