"""A layer whose weights can be stored at low precision, in a network as in its graph."""

from __future__ import annotations

from typing import Literal, NamedTuple

LayerKind = Literal["linear", "conv", "embedding"]


class Layer(NamedTuple):
    """A quantizable layer: module path, kind, and the weight's shape in torch's layout.

    The shape begins with rows (output features, output channels, vocabulary entries) and columns
    (input features, input channels of one group, width).
    """

    name: str
    kind: LayerKind
    shape: tuple[int, ...]
    bias: bool = True
