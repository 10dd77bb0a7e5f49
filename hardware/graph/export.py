"""From a plain torch network to the template graph that candidates are cut from."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager

import onnx
import onnx_ir as ir
import torch
from onnx_ir.passes import common as passes
from onnxscript.optimizer import fold_constants
from torch import Tensor, nn

from hardware.graph import graph_rewrites, module_choices
from hardware.graph.attention_rewrite import attention
from hardware.graph.constants import share_constants
from hardware.graph.nodes import scope
from hardware.graph.template import DROPPED, Template

__all__ = ["OPSET", "Template", "export_template"]

OPSET = 23
"""First ONNX operator set with `Attention`; `Int4` weights need 21."""


def export_template(
    network: nn.Module,
    inputs: Mapping[str, Tensor],
    *,
    dynamic_axes: Mapping[str, Mapping[int, str]],
    free_axes: Mapping[str, Mapping[int, str]] | None = None,
    choices: Mapping[str, Sequence[str]] | None = None,
    outputs: Sequence[str] = ("logits",),
) -> Template:
    """Export the largest network once; candidates are sliced from the result.

    `choices` are the names of modules of which a candidate keeps one, by the path of the module
    that adds up what they put out; the last is the full network's.

    `dynamic_axes` vary from call to call, `free_axes` from candidate to candidate: the network
    fixes them, the graph's inputs leave them open.
    Raises ValueError for a graph that cannot be cut: a layer used twice, or attention whose heads
    cannot be told from its projections.
    """
    model = _export(network, inputs, dynamic_axes, outputs)
    graph_rewrites.linears(model.graph)
    graph_rewrites.shapes(model.graph)
    parameters = _parameters(model.graph, network.state_dict())
    fold_constants(model, should_fold=lambda node: not _reads_parameter(node, parameters))
    passes.IdentityEliminationPass()(model)
    graph_rewrites.slices(model.graph)
    graph_rewrites.pooling(model.graph)
    graph_rewrites.convolutions(model.graph, parameters)
    attention(model.graph)
    passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    passes.RemoveUnusedNodesPass()(model)
    share_constants(model.graph, parameters)
    parameters = {name: shape for name, shape in parameters.items() if name in _used(model.graph)}
    side_by_side = module_choices.side_by_side(model.graph, choices or {})
    module_choices.part_outputs(model.graph)
    bypasses = module_choices.bypasses(model.graph)
    module_choices.mark_read_tokens(model.graph, bypasses)
    for name in parameters:
        del model.graph.initializers[name]
    proto = _proto(model)
    _open_axes(proto.graph, free_axes or {})
    dropped = {path: {DROPPED: bypass} for path, bypass in bypasses.items()}
    template = Template(proto, parameters, {**dropped, **side_by_side})
    _refuse_repeated(template)
    return template


def _refuse_repeated(template: Template) -> None:
    names = [layer.name for layer in template.layers]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(
            f"{repeated}: used more than once in the network; give each use a layer of its own"
        )


def _open_axes(graph: onnx.GraphProto, axes: Mapping[str, Mapping[int, str]]) -> None:
    for value in graph.input:
        for place, label in axes.get(value.name, {}).items():
            value.type.tensor_type.shape.dim[place].dim_param = label


def _export(
    network: nn.Module,
    inputs: Mapping[str, Tensor],
    dynamic_axes: Mapping[str, Mapping[int, str]],
    outputs: Sequence[str],
) -> ir.Model:
    axes = {name: dynamic_axes.get(name, {}) for name in inputs}
    dims = {label: torch.export.Dim(label) for table in axes.values() for label in table.values()}
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            network.eval(),
            (),
            kwargs={name: _widened(x, axes[name]) for name, x in inputs.items()},
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_shapes={n: {i: dims[label] for i, label in t.items()} for n, t in axes.items()},
            opset_version=OPSET,
            dynamo=True,
            optimize=False,
            verbose=False,
        )
    assert program is not None
    return program.model


def _widened(x: Tensor, axes: Mapping[int, str]) -> Tensor:
    """Give every dynamic axis at least two entries: the exporter takes a 1 for a constant."""
    for axis in axes:
        if x.shape[axis] == 1:
            x = x.repeat_interleave(2, dim=axis)
    return x


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide the exporter's remarks about optional packages; errors pass through."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _parameters(graph: ir.Graph, state: Container[str]) -> dict[str, tuple[int, ...]]:
    """Shapes of what a candidate's weights give; other initializers are the same for all."""
    return {
        name: tuple(int(size) for size in v.shape or () if isinstance(size, int))
        for name, v in graph.initializers.items()
        if name in state
    }


def _reads_parameter(node: ir.Node, parameters: Mapping[str, object]) -> bool:
    return any(value is not None and value.name in parameters for value in node.inputs)


def _used(graph: ir.Graph) -> set[str]:
    return {value.name or "" for node in graph for value in node.inputs if value is not None}


def _proto(model: ir.Model) -> onnx.ModelProto:
    """Serialise without shapes, traces and doc strings; every node named, its scope kept."""
    for position, node in enumerate(model.graph):
        path = scope(node)
        node.metadata_props.clear()
        node.metadata_props["scope"] = path
        node.doc_string = None
        node.name = f"{path or 'network'}/{node.op_type}_{position}"
    for value in (*model.graph.inputs, *model.graph.outputs):
        value.metadata_props.clear()
    model.graph.metadata_props.clear()
    model.metadata_props.clear()
    model.producer_name, model.producer_version = "simqnas", None
    proto = ir.serde.serialize_model(model)
    del proto.graph.value_info[:]
    return proto
