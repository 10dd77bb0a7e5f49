"""From template, weights and policy to the ONNX model of one candidate."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx.helper import make_opsetid

from hardware.functions import FUNCTIONS
from hardware.graph import GraphWriter
from hardware.kernels import LayerValues, write_linear
from hardware.memo import WeightMemo
from hardware.precision import Precision, QuantPolicy, QuantScheme
from hardware.quantize import Floats
from hardware.template import DOMAIN, Layer, Template

IR_VERSION = 10
"""First file format version with INT4 tensors."""

Weights = Mapping[str, Floats]


def materialize(
    template: Template,
    weights: Weights,
    policy: QuantPolicy,
    scheme: QuantScheme,
    *,
    memo: WeightMemo | None = None,
) -> onnx.ModelProto:
    """Write the candidate's graph: sliced weights, dropped blocks bypassed, every layer's format.

    `weights` is the extracted network's state dict in the torch layout; modules without parameters
    in it are bypassed. Layers that `policy` does not name stay FP32. One `memo` for all
    candidates of a run saves quantizing the same weights again.
    Raises ValueError for weights or a policy that do not fit the template.
    """
    kept = _kept_nodes(template, weights)
    _check_policy(template, kept, policy)
    graph, store = GraphWriter(), memo or WeightMemo()
    for node in kept:
        layer = template.layer_of.get(node.name)
        if layer is not None:
            _write_layer(
                graph, node, layer, weights, policy.get(layer.name, Precision.FP32), scheme, store
            )
        else:
            _copy_parameters(graph, node, weights)
            graph.copy(_with_heads(node, template, weights))
    return assemble(template, graph)


def save_model(model: onnx.ModelProto, path: str | Path) -> None:
    """Write atomically: the file appears complete or not at all."""
    path = Path(path)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(model.SerializeToString())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _kept_nodes(template: Template, weights: Weights) -> list[onnx.NodeProto]:
    """Copies of the nodes outside dropped modules, reading around the gaps."""
    paths = template.dropped(weights)
    renamed = {template.bypasses[path].output: template.bypasses[path].input for path in paths}
    kept = []
    for node in template.model.graph.node:
        scope = node.metadata_props[0].value
        if any(scope == path or scope.startswith(path + ".") for path in paths):
            continue
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        del copy.metadata_props[:]
        for place, name in enumerate(copy.input):
            while name in renamed:
                name = renamed[name]
            copy.input[place] = name
        kept.append(copy)
    return kept


def _check_policy(template: Template, kept: list[onnx.NodeProto], policy: QuantPolicy) -> None:
    layers = {template.layer_of[node.name].name for node in kept if node.name in template.layer_of}
    unknown = sorted(set(policy) - layers)
    if unknown:
        raise ValueError(
            f"policy: {unknown} are no layers of this network; it has {sorted(layers)}"
        )


def _write_layer(
    graph: GraphWriter,
    node: onnx.NodeProto,
    layer: Layer,
    weights: Weights,
    precision: Precision,
    scheme: QuantScheme,
    memo: WeightMemo,
) -> None:
    bias = weights[node.input[2]] if len(node.input) > 2 else None
    weight = weights[f"{layer.name}.weight"]
    values = LayerValues(layer.name, node.input[0], node.output[0], weight, bias)
    write_linear(graph, values, precision, scheme, memo)


def _copy_parameters(graph: GraphWriter, node: onnx.NodeProto, weights: Weights) -> None:
    for name in node.input:
        if name in weights:
            graph.tensor(name, weights[name])


def _with_heads(node: onnx.NodeProto, template: Template, weights: Weights) -> onnx.NodeProto:
    """Set the head counts of `Attention` from the rows that its projections have left."""
    if node.op_type == "Attention":
        for attribute, source in (("q_num_heads", 0), ("kv_num_heads", 1)):
            projection = template.producer[node.input[source]].input[1]
            entry = next(a for a in node.attribute if a.name == attribute)
            head_size = template.parameters[projection][0] // entry.i
            entry.i, rest = divmod(len(weights[projection]), head_size)
            if rest:
                raise ValueError(
                    f"weights: {projection} has {len(weights[projection])} rows, no multiple of "
                    f"the head size {head_size}"
                )
    return node


def assemble(template: Template, graph: GraphWriter) -> onnx.ModelProto:
    """The model around the nodes and tensors of a graph: inputs, outputs, constants, functions."""
    source = template.model
    used = {name for node in graph.nodes for name in node.input}
    constants = [tensor for tensor in source.graph.initializer if tensor.name in used]
    opsets = [entry for entry in source.opset_import if entry.domain != DOMAIN]
    functions = [FUNCTIONS[name] for name in sorted(graph.functions)]
    if functions:
        opsets.append(make_opsetid(DOMAIN, 1))
    return onnx.ModelProto(
        ir_version=IR_VERSION,
        producer_name="simqnas",
        opset_import=opsets,
        functions=functions,
        graph=onnx.GraphProto(
            name="network",
            node=graph.nodes,
            initializer=[*constants, *graph.tensors],
            input=source.graph.input,
            output=source.graph.output,
        ),
    )


def arrays(state: Mapping[str, object]) -> dict[str, Floats]:
    """A torch state dict as FP32 NumPy arrays, without copying what already lies so."""
    return {name: np.asarray(value, np.float32) for name, value in state.items()}
