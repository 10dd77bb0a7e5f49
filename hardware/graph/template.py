"""The exported graph of the largest network, from which every candidate is cut."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import onnx
from onnx.numpy_helper import from_array, to_array

from hardware.graph.first_tokens import narrow, scope
from hardware.graph.layer import Layer, LayerKind
from hardware.graph.lowering import constant, lower
from hardware.graph.recent import Recent

DOMAIN = "simqnas"
"""Operator domain of the template's `Linear` (x, weight[, bias]), which materialize expands."""

DROPPED = "dropped"
"""The choice of leaving a module out: what it puts out is what it was given."""

DEPTHS_KEPT = 16
"""Sets of dropped modules whose nodes are kept; the next candidate often drops the same."""


class Alternative(NamedTuple):
    """What one choice for a module means: whoever reads `output` reads `input` instead.

    Of the module only what lies in a part named like the choice is left. more: further outputs,
    each behind what is read instead.
    """

    input: str
    output: str
    more: tuple[tuple[str, str], ...] = ()

    @property
    def renamed(self) -> dict[str, str]:
        """Output -> what is read instead."""
        further = {output: source for source, output in self.more}
        return {} if self.is_own else {self.output: self.input, **further}

    @property
    def is_own(self) -> bool:
        """Whether it is the full network's: nothing is read otherwise."""
        return self.input == self.output


Alternatives = Mapping[str, Mapping[str, Alternative]]
"""Module path -> choice -> what it means."""


@dataclass(frozen=True)
class Template:
    """A normalised ONNX graph without its parameters.

    `model` keeps one node per layer; parameters are inputs of nodes that carry the torch name.
    `parameters` maps those names to the largest shapes. `alternatives` are choices for modules:
    a transformer block or residual block may be dropped, which a candidate's weights tell; modules
    that stand side by side in the graph (`open`) are told apart by `chosen`. What is written for a
    candidate has operators of `opset`, or of the oldest possible without a number. lowered: whether
    the model's nodes are so already.
    """

    model: onnx.ModelProto
    parameters: Mapping[str, tuple[int, ...]]
    alternatives: Alternatives
    opset: int | None = None
    lowered: bool = False

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
                found[node.name] = Layer(name, kind, self.parameters[weight], len(node.input) > 2)
        return found

    def operands(self, node: onnx.NodeProto) -> list[str]:
        """Parameters that a layer's node is applied to, which are not the layer's own."""
        own = f"{self.layer_of[node.name].name}."
        return [n for n in node.input if n in self.parameters and not n.startswith(own)]

    @cached_property
    def producer(self) -> dict[str, onnx.NodeProto]:
        """Value name -> the node that computes it."""
        return {output: node for node in self.model.graph.node for output in node.output}

    @cached_property
    def constants(self) -> set[str]:
        """Values that are no activations."""
        given = {tensor.name for tensor in self.model.graph.initializer}
        return {*self.parameters, *given}

    @cached_property
    def bypasses(self) -> dict[str, Alternative]:
        """Droppable modules -> what they connect if they are dropped."""
        return {p: among[DROPPED] for p, among in self.alternatives.items() if DROPPED in among}

    @cached_property
    def open(self) -> dict[str, str]:
        """Modules of which several stand side by side -> the full network's choice."""
        return {
            path: next(choice for choice, found in among.items() if found.is_own)
            for path, among in self.alternatives.items()
            if DROPPED not in among
        }

    def chosen(self, values: Mapping[str, object]) -> Template:
        """The template with one module left wherever several stand side by side.

        `values` tells by path which; where it does not, the full network's own is left.
        """
        choices = {path: str(values.get(path, own)) for path, own in self.open.items()}
        if not choices:
            return self
        cut = [path for path in self.parameters if _is_cut(path, choices)]
        parameters = {n: shape for n, shape in self.parameters.items() if n not in cut}
        return replace(
            self,
            model=self._with_nodes(self._left(choices)),
            parameters=parameters,
            alternatives={p: a for p, a in self.alternatives.items() if p not in choices},
        )

    def without(self, paths: Sequence[str]) -> list[onnx.NodeProto]:
        """Copies of the nodes outside these droppable modules, reading around the gaps.

        Of what then is the last block, only the tokens that are read are computed.
        """
        return [_copy(node) for node in self._kept.of(tuple(paths), self._lowered)]

    @cached_property
    def _kept(self) -> Recent[tuple[str, ...], list[onnx.NodeProto]]:
        """Modules that are left out -> the nodes without them; few depths serve many candidates."""
        return Recent(DEPTHS_KEPT)

    def _lowered(self, paths: tuple[str, ...]) -> list[onnx.NodeProto]:
        """The nodes without these modules."""
        if self.lowered and not paths:
            return list(self.model.graph.node)
        left = self._left(dict.fromkeys(paths, DROPPED))
        narrowed = narrow(left, self.bypasses, self.constants, self._shapes, self._stands_in)
        return lower(narrowed, self.opset, self.head_size, self._shapes, self.parameters)

    @cached_property
    def _shapes(self) -> dict[str, list[int]]:
        """Constants that are lists of whole numbers."""
        given = self.model.graph.initializer
        whole = (t for t in given if t.data_type == onnx.TensorProto.INT64 and len(t.dims) == 1)
        return {tensor.name: to_array(tensor).tolist() for tensor in whole}

    @cached_property
    def _stands_in(self) -> dict[str, str]:
        """What a module puts out of which several stand side by side -> what the own one does."""
        ends = [(path, end) for path in self.open for end in self.alternatives[path].values()]
        return {
            end.input: end.output
            for path, end in ends
            if end.input in self.producer and within(scope(self.producer[end.input]), path)
        }

    def _left(self, choices: Mapping[str, str]) -> list[onnx.NodeProto]:
        """Copies of the nodes that these choices leave, reading as they say."""
        taken = [self.alternatives[path][choice] for path, choice in choices.items()]
        renamed = {output: source for found in taken for output, source in found.renamed.items()}
        kept = []
        for node in self.model.graph.node:
            if _is_cut(scope(node), choices):
                continue
            copy = _copy(node)
            for place, name in enumerate(copy.input):
                while name in renamed:
                    name = renamed[name]
                copy.input[place] = name
            kept.append(copy)
        return kept

    def head_size(self, attention: onnx.NodeProto) -> int:
        """Width of the heads of an `Attention` node."""
        heads = next(entry.i for entry in attention.attribute if entry.name == "kv_num_heads")
        return self.parameters[self.projection(attention.input[1])][0] // int(heads)

    def projection(self, value: str) -> str:
        """The weight that queries, keys or values were projected by, whatever came after it."""
        node = self.producer[value]
        while node.op_type != "Linear":
            node = self.producer[node.input[0]]
        return str(node.input[1])

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
        gone = dict.fromkeys(paths, DROPPED)
        left = {path: a for path, a in self.alternatives.items() if not _is_cut(path, gone)}
        model = self._with_nodes(self._lowered(tuple(paths)))
        return replace(self, model=model, alternatives=left, lowered=True)

    def _with_nodes(self, nodes: Iterable[onnx.NodeProto]) -> onnx.ModelProto:
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        del model.graph.node[:]
        model.graph.node.extend(nodes)
        return model

    def dropped(self, present: Iterable[str]) -> tuple[str, ...]:
        """Module paths to bypass because none of their parameters is among `present`.

        Raises ValueError when a parameter is missing that no whole droppable module explains.
        """
        assert not self.open, f"{sorted(self.open)}: several modules each; see `chosen`"
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
        tables = {"parameters": self.parameters, "alternatives": self.alternatives}
        onnx.helper.set_model_props(model, {k: json.dumps(v) for k, v in tables.items()})
        Path(path).write_bytes(model.SerializeToString())

    @classmethod
    def load(cls, path: str | Path) -> Template:
        """Read what `save` wrote, now or in version 0.1.0, which knew dropped modules alone."""
        model = onnx.load(str(path))
        tables = {prop.key: json.loads(prop.value) for prop in model.metadata_props}
        del model.metadata_props[:]
        parameters = {name: tuple(shape) for name, shape in tables["parameters"].items()}
        dropped = tables.get("bypasses", {})
        table = tables.get("alternatives", {p: {DROPPED: ends} for p, ends in dropped.items()})
        alternatives = {
            path: {choice: _alternative(*ends) for choice, ends in among.items()}
            for path, among in table.items()
        }
        return cls(model, parameters, alternatives)


def _alternative(input: str, output: str, more: Sequence[tuple[str, str]] = ()) -> Alternative:
    """From JSON, which has lists in place of tuples."""
    return Alternative(input, output, tuple((source, end) for source, end in more))


def _copy(node: onnx.NodeProto) -> onnx.NodeProto:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    return copy


def within(path: str, module: str) -> bool:
    """Whether a module path is that module's, or of a part of it."""
    return f"{path}.".startswith(f"{module}.")


def _is_cut(path: str, choices: Mapping[str, str]) -> bool:
    """Whether these choices leave out what is at a path."""
    return any(
        within(path, module) and not within(path, f"{module}.{choice}")
        for module, choice in choices.items()
    )


def layer_kind(node: onnx.NodeProto, parameters: Mapping[str, object]) -> LayerKind | None:
    """What quantizable layer a template node is, None for every other node."""
    if node.domain == DOMAIN and node.op_type == "Linear":
        return "linear"
    if node.op_type == "Conv" and node.input[1] in parameters:
        return "conv"
    if node.op_type == "Gather" and node.input[0] in parameters:
        return "embedding"
    return None
