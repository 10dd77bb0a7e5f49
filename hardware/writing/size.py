"""Exact file size of candidates, without writing them.

The formats' layer writers run dry: on weights that have a shape but no memory, into a
writer that counts protobuf bytes. Prediction and file therefore cannot drift apart.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, cached_property, reduce
from operator import and_, or_
from typing import NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx.helper import make_opsetid, np_dtype_to_tensor_dtype

from hardware.formats.format import Format, LayerValues, LayerWriter
from hardware.formats.registry import ordered
from hardware.formats.scheme import QuantScheme
from hardware.formats.weight_memo import ShapeMemo, no_floats
from hardware.graph.first_tokens import scope
from hardware.graph.graph_writer import MICROSOFT, AnyArray, GraphWriter
from hardware.graph.layer import Layer, LayerKind
from hardware.graph.lowering import drop_name
from hardware.graph.recent import Recent
from hardware.graph.static_activations import ROUNDED, Plan, Ranges, StaticActivations, Step, plan
from hardware.graph.template import Template, within
from hardware.writing.materialize import assemble, can_be_static, with_groups

Counts = NDArray[np.int64]
Mask = NDArray[np.bool_]
Choices = Mapping[str, NDArray[np.str_]]

GRAPHS_KEPT = 128
"""Graphs of genomes that drop the same blocks: more than one generation has."""
NO_LAYER = "\0"
"""Prefix of no name: everything counted is shared."""


class LayerSize(NamedTuple):
    """Bytes that a layer alone adds to the file, and bytes of what it may share with others."""

    own_bytes: int
    shared_bytes: dict[str, int]


Condition = tuple[tuple[str, tuple[str, ...]], ...]
"""Modules, each with the choices of which one has to be made."""
LayerSizes = dict[tuple[str | int | Format, ...], LayerSize]
"""Name, inputs, sizes and format of a layer -> what it adds to the file."""


class SizeModel:
    """File size of any candidate of a template, vectorised over genomes."""

    def __init__(self, template: Template, scheme: QuantScheme) -> None:
        self._template, self._scheme = template, scheme
        self._layers: LayerSizes = {}
        self._kept = Recent[tuple[str, ...], _Shortened](GRAPHS_KEPT)

    def file_bytes(
        self,
        layers: Sequence[str],
        out_features: Counts,
        in_features: Counts,
        formats: Counts,
        choices: Choices | None = None,
    ) -> Counts:
        """Bytes of the written file for every genome, `(n_samples,)`.

        `layers` names the columns of the three `(n_samples, n_layers)` arrays: rows and columns of
        each `Layer`'s weight, both 0 where it is dropped, and formats by their places in
        `ordered()`. `choices` names the alternative of a module, `(n_samples,)` each.
        """
        result = np.zeros(len(out_features), np.int64)
        for dropped, rows in self._by_dropped(layers, out_features > 0):
            left = self._kept.of(dropped, self._shortened)
            columns = [i for i, name in enumerate(layers) if name in left.layers]
            tables = [table[rows][:, columns] for table in (out_features, in_features, formats)]
            taken = {path: names[rows] for path, names in (choices or {}).items()}
            names = [layers[i] for i in columns]
            result[rows] = left.file_bytes(names, tables[0], tables[1], tables[2], taken)
        return result

    def _by_dropped(
        self, layers: Sequence[str], present: Mask
    ) -> Iterator[tuple[tuple[str, ...], Mask]]:
        """The sets of blocks that genomes drop, and which genomes do."""
        paths = list(self._template.bypasses)
        inside = [[i for i, name in enumerate(layers) if within(name, path)] for path in paths]
        always = np.ones(len(present), bool)
        kept = np.stack([always, *(present[:, columns].any(axis=1) for columns in inside)], axis=1)
        sets, number = np.unique(kept, axis=0, return_inverse=True)
        for index, row in enumerate(sets[:, 1:]):
            dropped = tuple(path for path, there in zip(paths, row, strict=True) if not there)
            yield dropped, number.ravel() == index

    def _shortened(self, dropped: tuple[str, ...]) -> _Shortened:
        return _Shortened(self._template.shortened(dropped), self._scheme, self._layers)


class _Shortened:
    """File size of the candidates that drop the same blocks.

    known: sizes of layers, which those of other depths share.
    """

    def __init__(self, template: Template, scheme: QuantScheme, known: LayerSizes) -> None:
        self._template, self._scheme, self._known = template, scheme, known

    def file_bytes(
        self,
        layers: Sequence[str],
        out_features: Counts,
        in_features: Counts,
        formats: Counts,
        choices: Choices,
    ) -> Counts:
        """See `SizeModel`."""
        samples = len(out_features)
        total, shared = np.zeros(samples, np.int64), dict[str, Counts]()
        for column, name in enumerate(layers):
            sizes = out_features[:, column] << 31 | in_features[:, column]
            codes = sizes << 6 | formats[:, column]
            for code in np.unique(codes).tolist():
                out, inputs, place = code >> 37, code >> 6 & (1 << 31) - 1, code & 63
                if out:
                    mask = codes == code
                    size = self._layer_size(name, out, inputs, ordered()[place])
                    total[mask] += size.own_bytes
                    for key, count in size.shared_bytes.items():
                        shared.setdefault(key, np.zeros(samples, np.int64))[mask] = count
        for key, mask, count in self._rounding(layers, formats):
            shared.setdefault(key, np.zeros(samples, np.int64))[mask] = count
        domains = shared.pop(MICROSOFT, np.zeros(samples, np.int64))
        total += _sum(list(shared.values()), samples)
        total += self._other_bytes(samples, choices)
        graph = np.array([_field(int(count)) for count in total], np.int64)
        return graph + domains + self._frame_bytes

    def _layer_size(self, name: str, out: int, inputs: int, precision: Format) -> LayerSize:
        """What one layer of these sizes adds to the file."""
        key = (name, *self.layers[name][1].input, out, inputs, precision)
        if key not in self._known:
            self._known[key] = self._count(name, out, inputs, precision)
        return self._known[key]

    def _count(self, name: str, out: int, inputs: int, precision: Format) -> LayerSize:
        layer, node = self.layers[name]
        weight = no_floats(out, inputs, *layer.shape[2:])
        bias = no_floats(out) if len(node.input) > 2 else None
        bare = onnx.NodeProto()
        bare.CopyFrom(node)
        del bare.metadata_props[:]
        counter = _ByteCounter(name)
        activations = _NamesOnly(counter, Plan(), Ranges({}))
        writer = LayerWriter(counter, self._scheme, ShapeMemo(), activations)
        values = LayerValues(name, layer.kind, with_groups(bare, layer, out), weight, bias)
        precision.write(values, writer)
        return LayerSize(counter.own_bytes, counter.shared_bytes)

    def _rounding(self, layers: Sequence[str], formats: Counts) -> Iterator[tuple[str, Mask, int]]:
        """What calibrated activations add: (name, where it is written, bytes)."""
        nodes, low = self._flow, dict[str, Mask]()
        for column, name in enumerate(layers):
            layer, node = self.layers[name]
            if layer.kind in self._static:
                low[node.name] = self._static[layer.kind][formats[:, column]]
        found = plan(nodes, low)
        integers_only = {n.input[0] for n in nodes if n.op_type == "Linear"} - found.whole.keys()
        if self._scheme.linear == "qdq":
            integers_only = set()
        no = np.bool_(False)
        for value in {**found.whole, **found.edge}:
            mask = np.asarray(found.whole.get(value, no) | found.edge.get(value, no))
            source = found.source.get(value, value)
            size = _rounding_size(value, source, value not in integers_only)
            yield f"{value}/static", mask, size.own_bytes
            for name, count in size.shared_bytes.items():
                yield name, mask, count
        for step in nodes:
            for name in set(step.input) & found.whole.keys():
                renamed = found.whole[name] & ~low.get(step.name, np.bool_(False))
                yield f"{step.name} reads {name}", np.asarray(renamed), len(ROUNDED)

    @cached_property
    def _static(self) -> dict[LayerKind, Mask]:
        """Kinds of layers that can have calibrated activations -> which formats have them."""
        kinds = {layer.kind for layer, _ in self.layers.values()}
        return {
            kind: np.array([entry.is_static(kind, self._scheme) for entry in ordered()])
            for kind in kinds
            if can_be_static(kind, self._scheme)
        }

    @cached_property
    def _flow(self) -> list[Step]:
        """The nodes as far as rounding follows them."""
        return [Step.of(node) for node in self._template.model.graph.node]

    @cached_property
    def layers(self) -> dict[str, tuple[Layer, onnx.NodeProto]]:
        """Layer name -> the layer and its node."""
        nodes = self._template.model.graph.node
        found = [(self._template.layer_of.get(node.name), node) for node in nodes]
        return {layer.name: (layer, node) for layer, node in found if layer is not None}

    @cached_property
    def _frame_bytes(self) -> int:
        """Everything outside the graph field, other domains not counted."""
        model = assemble(self._template, GraphWriter())
        return int(model.ByteSize()) - _field(model.graph.ByteSize())

    def _other_bytes(self, samples: int, choices: Choices) -> Counts:
        """Nodes that are no layers, where their module is chosen, and what all nodes read besides
        layers' own parameters."""
        taken = {
            path: choices.get(path, np.array(own)) for path, own in self._template.open.items()
        }
        total = np.zeros(samples, np.int64)

        def holds(condition: Condition) -> Mask | np.bool_:
            found = (np.isin(taken[path], among) for path, among in condition)
            return reduce(and_, found, np.bool_(True))

        for conditions, count in self._others.items():
            total += count * reduce(or_, map(holds, conditions))
        return total

    @cached_property
    def _others(self) -> Counter[frozenset[Condition]]:
        """Conditions of which one has to hold -> bytes that are written then."""
        empty = assemble(self._template, GraphWriter()).graph.ByteSize()
        found = Counter({frozenset[Condition]({()}): empty})
        readers: dict[str, set[Condition]] = {}
        for node in self._template.model.graph.node:
            condition = self._condition(node)
            is_layer = node.name in self._template.layer_of
            if not is_layer:
                found[frozenset({condition})] += _node_bytes(node)
            for name in self._template.operands(node) if is_layer else node.input:
                readers.setdefault(name, set()).add(condition)
        for name, conditions in readers.items():
            found[frozenset(conditions)] += self._tensor_bytes(name)
        return found

    def _tensor_bytes(self, name: str) -> int:
        """What a parameter or constant adds, nothing for an activation."""
        if name in self._template.parameters:
            counter = _ByteCounter("")
            counter.tensor(name, no_floats(*self._template.parameters[name]))
            return counter.own_bytes
        constant = self._template.initializers.get(name)
        return 0 if constant is None else _field(constant.ByteSize())

    def _condition(self, node: onnx.NodeProto) -> Condition:
        """What has to be chosen for a node to be there."""
        around = [path for path in self._template.open if within(scope(node), path)]
        names = {path: self._template.alternatives[path] for path in around}
        return tuple(
            (path, tuple(name for name in names[path] if within(scope(node), f"{path}.{name}")))
            for path in around
        )


@cache
def _rounding_size(value: str, source: str, for_floats: bool) -> LayerSize:
    """What rounding a value to a calibrated range adds, for those who read it as floats too."""
    counter = _ByteCounter(NO_LAYER)
    activations = StaticActivations(counter, Plan(source={value: source}), _AnyRange({}))
    activations.quantized(value)
    if for_floats:
        activations.rounded(value)
    return LayerSize(counter.own_bytes, counter.shared_bytes)


def _node_bytes(node: onnx.NodeProto) -> int:
    bare = onnx.NodeProto()
    bare.CopyFrom(node)
    del bare.metadata_props[:]
    drop_name(bare)
    return _field(bare.ByteSize())


class _ByteCounter(GraphWriter):
    """A writer that keeps sizes only; what does not carry the layer's name is shared."""

    def __init__(self, layer: str) -> None:
        super().__init__()
        self.own_bytes, self.shared_bytes = 0, dict[str, int]()
        self._layer, self._values = layer, dict[str, str]()

    def copy(self, node: onnx.NodeProto) -> None:
        self._known.update(node.output)
        first = node.output[0]
        if first in self._values:
            self.shared_bytes[self._values[first]] = _field(node.ByteSize())
        else:
            self.own_bytes += _field(node.ByteSize())
        if node.domain == MICROSOFT:
            self.shared_bytes[MICROSOFT] = _opset_bytes(MICROSOFT)

    def shared(self, value: str) -> str:
        name = super().shared(value)
        self._values[name] = value
        return name

    def tensor(self, name: str, array: AnyArray) -> str:
        kind, raw_bytes = np_dtype_to_tensor_dtype(array.dtype), array.size * array.itemsize
        header = onnx.TensorProto(name=name, data_type=kind, dims=array.shape).ByteSize()
        size = _field(header + _field(raw_bytes))
        if name.startswith(self._layer):
            self.own_bytes += size
        else:
            self.shared_bytes[name] = size
        return name


class _NamesOnly(StaticActivations):
    """Names of rounded activations without writing them: they are counted once per value."""

    def rounded(self, value: str) -> str:
        return value + ROUNDED

    def quantized(self, value: str) -> list[str]:
        return [f"{value}/static{part}" for part in ("", "_scale", "_zero_point")]


class _AnyRange(Ranges):
    def __getitem__(self, value: str) -> tuple[float, float]:
        return (0.0, 1.0)


def _sum(arrays: Sequence[Counts], samples: int) -> Counts:
    return sum(arrays, np.zeros(samples, np.int64))


def _opset_bytes(domain: str) -> int:
    return _field(make_opsetid(domain, 1).ByteSize())


def _field(length: int) -> int:
    """Bytes of a length-delimited protobuf field: tag, length as varint, content."""
    return 1 + max(1, -(-length.bit_length() // 7)) + length
