"""Where a candidate's ONNX graph rounds activations, told in module paths for the torch side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx

from hardware.formats.policy import QuantPolicy
from hardware.formats.scheme import QuantScheme
from hardware.graph.first_tokens import scope
from hardware.graph.static_activations import Ranges, plan
from hardware.graph.template import Template
from hardware.writing.materialize import Weights, static_layers

Range = tuple[float, float]


@dataclass(frozen=True)
class Rounding:
    """Calibrated ranges by module path: of layers' inputs, and of modules' outputs."""

    inputs: Mapping[str, Range]
    outputs: Mapping[str, Range]


def rounding_of(
    template: Template, weights: Weights, policy: QuantPolicy, scheme: QuantScheme, ranges: Ranges
) -> Rounding:
    """Everything static that `materialize` would round, so that torch can round it too.

    A value that leaves a module as its only result is rounded there; one that stays inside is
    rounded where layers read it.
    """
    nodes = template.without(template.dropped(weights))
    low = static_layers(template, nodes, scheme, policy)
    found = plan(nodes, low)
    inputs = {}
    for node in nodes:
        layer = template.layer_of.get(node.name)
        x = node.input[0] if node.input else ""
        if layer is None or layer.kind == "embedding":
            continue
        if found.whole.get(x) or low.get(node.name):
            inputs[layer.name] = ranges[found.source.get(x, x)]
    scopes = {node.name: scope(node) for node in nodes}
    outputs = {}
    for node in nodes:
        for value in node.output:
            if found.whole.get(value) and _is_result(value, scopes[node.name], nodes, scopes):
                outputs[scopes[node.name]] = ranges[found.source.get(value, value)]
    return Rounding(inputs, outputs)


def _is_result(
    value: str, path: str, nodes: list[onnx.NodeProto], scopes: Mapping[str, str]
) -> bool:
    """Whether `value` is the only one that leaves the module at `path`."""
    inside = [n for n in nodes if scopes[n.name] == path or scopes[n.name].startswith(path + ".")]
    names = {node.name for node in inside}
    outside = {name for node in nodes if node.name not in names for name in node.input}
    return {output for node in inside for output in node.output} & outside == {value}
