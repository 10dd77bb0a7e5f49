"""Writing an ONNX graph: nodes and tensors appended in execution order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto
from onnx.helper import make_node, np_dtype_to_tensor_dtype

from hardware.graph.template import DOMAIN

AnyArray = NDArray[np.generic] | np.generic
Int8s = NDArray[np.int8]

MICROSOFT = "com.microsoft"
"""Domain of ONNX Runtime's own operators."""


class GraphWriter:
    """Collects the nodes and initializers of one graph, and which functions they call.

    It writes into the model itself, because protobuf copies whatever it is given.
    """

    def __init__(self) -> None:
        self.model = onnx.ModelProto()
        self.graph = self.model.graph
        self.functions: dict[str, onnx.FunctionProto] = {}
        self.domains: set[str] = set()
        self._known: set[str] = set()

    def knows(self, name: str) -> bool:
        """Whether a value or tensor of that name was written, so that it can be shared."""
        return name in self._known

    def copy(self, node: onnx.NodeProto) -> None:
        """Append a node as it is."""
        self.graph.node.append(node)
        self.domains.add(node.domain)
        self._known.update(node.output)

    def node(
        self, op_type: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any
    ) -> str:
        """Append a standard operator and return its first output."""
        self.copy(make_node(op_type, inputs, outputs, **attributes))
        return outputs[0]

    def call(self, function: onnx.FunctionProto, inputs: Sequence[str], output: str) -> str:
        """Append a call of one of our functions and return its output."""
        self.functions[function.name] = function
        self.copy(make_node(function.name, inputs, [output], domain=DOMAIN))
        return output

    def tensor(self, name: str, array: AnyArray) -> str:
        """Append an initializer and return its name; one already written is not repeated."""
        kind = np_dtype_to_tensor_dtype(array.dtype)
        return self._tensor(name, kind, array.shape, array.tobytes())

    def int4(self, name: str, values: Int8s) -> str:
        """Append an INT4 initializer, two values per byte."""
        return self._tensor(name, TensorProto.INT4, values.shape, pack_int4(values))

    def _tensor(self, name: str, kind: int, shape: Sequence[int], raw: bytes) -> str:
        if name not in self._known:
            self.graph.initializer.add(name=name, data_type=kind, dims=shape, raw_data=raw)
            self._known.add(name)
        return name


def pack_int4(values: Int8s) -> bytes:
    """ONNX's INT4 layout: two values per byte in row-major order, the first in the low bits."""
    flat = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
    if flat.size % 2:
        flat = np.append(flat, np.uint8(0))
    return bytes((flat[0::2] & 0xF | flat[1::2] << 4).tobytes())
