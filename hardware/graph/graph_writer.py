"""Writing an ONNX graph: nodes and tensors appended in execution order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx.helper import make_node, np_dtype_to_tensor_dtype

AnyArray = NDArray[np.generic] | np.generic
Int8s = NDArray[np.int8]

MICROSOFT = "com.microsoft"
"""Domain of ONNX Runtime's own operators."""


class GraphWriter:
    """Collects the nodes and initializers of one graph.

    It writes into the model itself, because protobuf copies whatever it is given.
    """

    def __init__(self) -> None:
        self.model = onnx.ModelProto()
        self.graph = self.model.graph
        self.domains: set[str] = set()
        self._known: set[str] = set()
        self._names: dict[str, str] = {}
        self._short_names = 0

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

    def expand(self, pattern: onnx.FunctionProto, inputs: Sequence[str], output: str) -> str:
        """Append the nodes of a pattern between these values and return its output."""
        names = dict(zip(pattern.input, inputs, strict=True)) | {pattern.output[0]: output}
        for node in pattern.node:
            written = onnx.NodeProto()
            written.CopyFrom(node)
            for places in (written.input, written.output):
                places[:] = [self._named(name, names) for name in places]
            self.copy(written)
        return output

    def _named(self, value: str, names: dict[str, str]) -> str:
        """The name of a pattern's value, a new one for one that the pattern alone knows."""
        if value and value not in names:
            names[value] = self._short()
        return names.get(value, "")

    def inner(self, value: str) -> str:
        """A short name for a value that one layer alone reads; the same one for the same value."""
        return self._remembered(value)

    def shared(self, value: str) -> str:
        """A short name for a value that several layers read; the same one for the same value."""
        return self._remembered(value)

    def _remembered(self, value: str) -> str:
        if value not in self._names:
            self._names[value] = self._short()
        return self._names[value]

    def _short(self) -> str:
        """A new name; all have one length, so that sizes are known beforehand."""
        self._short_names += 1
        return f"{np.base_repr(self._short_names, 36):0>3}"

    def tensor(self, name: str, array: AnyArray) -> str:
        """Append an initializer and return its name; one already written is not repeated."""
        if name not in self._known:
            kind, raw = np_dtype_to_tensor_dtype(array.dtype), array.tobytes()
            self.graph.initializer.add(name=name, data_type=kind, dims=array.shape, raw_data=raw)
            self._known.add(name)
        return name
