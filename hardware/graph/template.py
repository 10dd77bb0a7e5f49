"""The exported graph of the largest network, from which every candidate is cut."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple

import onnx
from onnx.numpy_helper import from_array

from hardware.graph.first_tokens import narrow, scope
from hardware.graph.lowering import constant, lower

DOMAIN = "simqnas"
"""Operator domain of the template's `Linear` (x, weight[, bias]), which materialize expands."""

LayerKind = Literal["linear", "conv", "embedding"]


class Layer(NamedTuple):
    """A quantizable layer: module path, kind, and the weight's shape in torch's layout."""

    name: str
    kind: LayerKind
    shape: tuple[int, ...]

    @property
    def out_features(self) -> int:
        """Rows of the weight: output features, output channels or vocabulary entries."""
        return self.shape[0]

    @property
    def in_features(self) -> int:
        """Weights per row: what one output sums over, or an embedding's width."""
        size = 1
        for dimension in self.shape[1:]:
            size *= dimension
        return size


class Bypass(NamedTuple):
    """What a dropped module is replaced with: its output value becomes its input value."""

    input: str
    output: str


@dataclass(frozen=True)
class Template:
    """A normalised ONNX graph without its parameters.

    `model` keeps one node per layer; parameters are inputs of nodes that carry the torch name.
    `parameters` maps those names to the largest shapes, `bypasses` module paths to the values
    that a dropped module (a transformer block, a residual block) connects. What is written for a
    candidate has operators of `opset`, or of the oldest possible without a number.
    """

    model: onnx.ModelProto
    parameters: Mapping[str, tuple[int, ...]]
    bypasses: Mapping[str, Bypass]
    opset: int | None = None

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """Quantizable layers in execution order."""
        return tuple(
            self.layer_of[n.name] for n in self.model.graph.node if n.name in self.layer_of
        )

    @cached_property
    def layer_of(self) -> dict[str, Layer]:
        """Node name -> layer."""
        found = {}
        for node in self.model.graph.node:
            kind = layer_kind(node, self.parameters)
            if kind is not None:
                weight = node.input[0 if kind == "embedding" else 1]
                name = weight.removesuffix(".weight")
                found[node.name] = Layer(name, kind, self.parameters[weight])
        return found

    @cached_property
    def producer(self) -> dict[str, onnx.NodeProto]:
        """Value name -> the node that computes it."""
        return {output: node for node in self.model.graph.node for output in node.output}

    @cached_property
    def constants(self) -> set[str]:
        """Values that are no activations."""
        given = {tensor.name for tensor in self.model.graph.initializer}
        return {*self.parameters, *given}

    def without(self, paths: Sequence[str]) -> list[onnx.NodeProto]:
        """Copies of the nodes outside these droppable modules, reading around the gaps.

        Of what then is the last block, only the tokens that are read are computed.
        """
        renamed = {self.bypasses[path].output: self.bypasses[path].input for path in paths}
        kept = []
        for node in self.model.graph.node:
            if any(f"{scope(node)}.".startswith(f"{path}.") for path in paths):
                continue
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            for place, name in enumerate(copy.input):
                while name in renamed:
                    name = renamed[name]
                copy.input[place] = name
            kept.append(copy)
        return lower(narrow(kept, self.bypasses, self.constants), self.opset, self.head_size)

    def head_size(self, attention: onnx.NodeProto) -> int:
        """Width of the heads of an `Attention` node."""
        heads = next(entry.i for entry in attention.attribute if entry.name == "kv_num_heads")
        projection = self.producer[attention.input[1]].input[1]
        return self.parameters[projection][0] // int(heads)

    @cached_property
    def initializers(self) -> dict[str, onnx.TensorProto]:
        """Constants of the graph, those of operators written with older ones included."""
        given = {tensor.name: tensor for tensor in self.model.graph.initializer}
        read = {name for node in self.without(()) for name in node.input}
        values = {name: constant(name) for name in sorted(read - given.keys())}
        made = {n: from_array(v, n) for n, v in values.items() if v is not None}
        return {**given, **made}

    def shortened(self, paths: Sequence[str]) -> Template:
        """The template of a network that never had these droppable modules."""
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        del model.graph.node[:]
        model.graph.node.extend(self.without(paths))
        left = {path: bypass for path, bypass in self.bypasses.items() if path not in paths}
        return Template(model, self.parameters, left, self.opset)

    def dropped(self, present: Iterable[str]) -> tuple[str, ...]:
        """Module paths to bypass because none of their parameters is among `present`.

        Raises ValueError when a parameter is missing that no whole droppable module explains.
        """
        missing = self.parameters.keys() - set(present)
        paths = [
            path for path in self.bypasses if self._owned(path) and self._owned(path) <= missing
        ]
        unexplained = missing.difference(*(self._owned(path) for path in paths))
        if unexplained:
            raise ValueError(
                f"weights: {sorted(unexplained)} are missing and belong to no module that can be "
                f"left out whole; droppable modules are {sorted(self.bypasses)}"
            )
        return tuple(paths)

    def _owned(self, path: str) -> set[str]:
        return self._parameters_under.get(path, set())

    @cached_property
    def _parameters_under(self) -> dict[str, set[str]]:
        return {
            path: {name for name in self.parameters if name.startswith(path + ".")}
            for path in self.bypasses
        }

    def save(self, path: str | Path) -> None:
        """Write the template as one ONNX file with its tables in the metadata."""
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        tables = {"parameters": self.parameters, "bypasses": self.bypasses}
        onnx.helper.set_model_props(model, {k: json.dumps(v) for k, v in tables.items()})
        Path(path).write_bytes(model.SerializeToString())

    @classmethod
    def load(cls, path: str | Path) -> Template:
        """Read what `save` wrote."""
        model = onnx.load(str(path))
        tables = {prop.key: json.loads(prop.value) for prop in model.metadata_props}
        del model.metadata_props[:]
        parameters = {name: tuple(shape) for name, shape in tables["parameters"].items()}
        bypasses = {path: Bypass(*values) for path, values in tables["bypasses"].items()}
        return cls(model, parameters, bypasses)


def layer_kind(node: onnx.NodeProto, parameters: Mapping[str, object]) -> LayerKind | None:
    """What quantizable layer a template node is, None for every other node."""
    if node.domain == DOMAIN and node.op_type == "Linear":
        return "linear"
    if node.op_type == "Conv" and node.input[1] in parameters:
        return "conv"
    if node.op_type == "Gather" and node.input[0] in parameters:
        return "embedding"
    return None
