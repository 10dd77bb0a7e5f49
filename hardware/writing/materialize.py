"""From template, weights and policy to the ONNX model of one candidate."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import onnx
from onnx.helper import find_min_ir_version_for, make_opsetid

from hardware.formats.format import Format, LayerValues, LayerWriter
from hardware.formats.fp32 import FP32
from hardware.formats.policy import QuantPolicy
from hardware.formats.registry import FORMATS
from hardware.formats.scheme import QuantScheme
from hardware.formats.weight_memo import Floats, WeightMemo
from hardware.graph.graph_writer import GraphWriter
from hardware.graph.layer import Layer, LayerKind
from hardware.graph.lowering import drop_name, least_opset
from hardware.graph.model_file import save_model
from hardware.graph.static_activations import Ranges, StaticActivations, plan
from hardware.graph.template import Template

__all__ = ["Weights", "arrays", "assemble", "materialize", "save_model"]

Weights = Mapping[str, Floats]


def materialize(
    template: Template,
    weights: Weights,
    policy: QuantPolicy,
    scheme: QuantScheme,
    ranges: Ranges | None = None,
    memo: WeightMemo | None = None,
) -> onnx.ModelProto:
    """Write the candidate's graph: sliced weights, dropped blocks bypassed, every layer's format.

    `weights` is the extracted network's state dict in the torch layout; modules without parameters
    in it are bypassed. Layers that `policy` does not name stay FP32. `ranges` are needed where
    activations are static (see `calibrate`). One `memo` for all candidates of a run saves
    quantizing the same weights again.
    Raises ValueError for weights or a policy that do not fit the template.
    """
    kept = kept_nodes(template, weights)
    _check_policy(template, kept, policy)
    heads, graph = _heads(template, weights), GraphWriter()
    rounding = plan(kept, static_layers(template, kept, scheme, policy))
    activations = StaticActivations(
        graph,
        rounding,
        ranges if ranges is not None else Ranges({}),
        symmetric=scheme.linear == "qdq",
    )
    writer = LayerWriter(graph, scheme, memo or WeightMemo(), activations)
    for node in kept:
        layer = template.layer_of.get(node.name)
        if layer is not None:
            for name in template.operands(node):
                graph.tensor(name, weights[name])
            policy.get(layer.name, FP32).write(_layer_values(node, layer, weights), writer)
        else:
            _write_other(graph, _with_heads(node, heads), weights, activations)
        activations.written(node.output)
    return assemble(template, graph)


def static_layers(
    template: Template,
    nodes: Iterable[onnx.NodeProto],
    scheme: QuantScheme,
    policy: Mapping[str, Format] | None = None,
) -> dict[str, np.bool_]:
    """Node name of every layer that could have static activations -> whether it has; without a
    policy, all could and do."""
    found = {}
    for node in nodes:
        layer = template.layer_of.get(node.name)
        if layer is not None and can_be_static(layer.kind, scheme):
            static = policy is None or policy.get(layer.name, FP32).is_static(layer.kind, scheme)
            found[node.name] = np.bool_(static)
    return found


def can_be_static(kind: LayerKind, scheme: QuantScheme) -> bool:
    """Whether any format has calibrated activations in layers of this kind."""
    return any(entry.is_static(kind, scheme) for entry in FORMATS.values())


def kept_nodes(template: Template, weights: Weights) -> list[onnx.NodeProto]:
    """Copies of the nodes outside dropped modules, reading around the gaps."""
    kept = template.without(template.dropped(weights))
    for node in kept:
        del node.metadata_props[:]
    return kept


def _check_policy(template: Template, kept: list[onnx.NodeProto], policy: QuantPolicy) -> None:
    layers = {template.layer_of[node.name].name for node in kept if node.name in template.layer_of}
    unknown = sorted(set(policy) - layers)
    if unknown:
        raise ValueError(
            f"policy: {unknown} are no layers of this network; it has {sorted(layers)}"
        )


def _layer_values(node: onnx.NodeProto, layer: Layer, weights: Weights) -> LayerValues:
    weight = weights[f"{layer.name}.weight"]
    bias = weights[node.input[2]] if len(node.input) > 2 else None
    return LayerValues(layer.name, layer.kind, with_groups(node, layer, len(weight)), weight, bias)


def with_groups(node: onnx.NodeProto, layer: Layer, rows: int) -> onnx.NodeProto:
    """Give a convolution of groups as many as so many rows of its weight make."""
    for entry in node.attribute:
        if entry.name == "group" and entry.i > 1:
            entry.i = entry.i * rows // layer.shape[0]
    return node


def _write_other(
    graph: GraphWriter, node: onnx.NodeProto, weights: Weights, activations: StaticActivations
) -> None:
    """Copy a node that is no layer, with the parameters it reads."""
    for place, name in enumerate(node.input):
        if name in weights:
            graph.tensor(name, weights[name])
        else:
            node.input[place] = activations.reader(name)
    drop_name(node)
    graph.copy(node)


def _with_heads(node: onnx.NodeProto, heads: Mapping[str, int]) -> onnx.NodeProto:
    """Set the head counts of an `Attention` that was not written with older operators."""
    for entry in node.attribute if node.op_type == "Attention" else ():
        if entry.name in ("q_num_heads", "kv_num_heads"):
            entry.i = heads[node.name]
    return node


def _heads(template: Template, weights: Weights) -> dict[str, int]:
    """Heads that are left of every `Attention`, by node name.

    Raises ValueError where rows of a projection are left that make no whole head.
    """
    found: dict[str, int] = {}
    for node in template.model.graph.node:
        if node.op_type != "Attention":
            continue
        for value in node.input[:3]:
            projection = template.projection(value)
            if projection in weights:
                size, rows = template.head_size(node), len(weights[projection])
                heads, rest = divmod(rows, size)
                found.setdefault(node.name, heads)  # of the queries: keys may have more
                if rest:
                    raise ValueError(
                        f"weights: {projection} has {rows} rows, no multiple of the head size "
                        f"{size}"
                    )
    return found


def assemble(template: Template, writer: GraphWriter) -> onnx.ModelProto:
    """Complete the model around the nodes and tensors: inputs, outputs, constants."""
    source, model, graph = template.model, writer.model, writer.graph
    used = {name for node in graph.node for name in node.input}
    graph.initializer.extend(t for n, t in template.initializers.items() if n in used)
    graph.name = "network"
    graph.input.extend(source.graph.input)
    graph.output.extend(source.graph.output)
    opsets = [make_opsetid("", template.opset or least_opset(graph.node))]
    opsets += [make_opsetid(domain, 1) for domain in sorted(writer.domains - {""})]
    model.ir_version = find_min_ir_version_for(opsets, ignore_unknown=True)
    model.producer_name = "simqnas"
    model.opset_import.extend(opsets)
    return model


def arrays(state: Mapping[str, object]) -> dict[str, Floats]:
    """A torch state dict as FP32 NumPy arrays, without copying what already lies so."""
    return {name: np.asarray(value, np.float32) for name, value in state.items()}
