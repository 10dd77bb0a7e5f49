"""`simqnas doctor`: what this machine can run, and how fast each format really is on it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

import numpy as np
import onnx
import onnxruntime
from onnx.helper import make_node, make_tensor_value_info
from rich.console import Group, RenderableType
from rich.table import Table

from hardware.formats.format import Format
from hardware.formats.policy import QuantPolicy
from hardware.formats.scheme import QuantScheme
from hardware.formats.weight_memo import Floats
from hardware.graph.static_activations import Ranges
from hardware.graph.template import DOMAIN, Template
from hardware.latency import DISTURBED_NOTE, Latency, measure
from hardware.providers import names_with_marks
from hardware.run_watch import RunWatch
from hardware.session import open_session
from hardware.target import FAST_INT8_FLAGS, Target, cpu_flags, cpu_name, int8_overflows
from hardware.writing.materialize import materialize


@dataclass(frozen=True)
class Probe:
    """A layer to measure: shape of its input, shape of its weight (four axes: convolution)."""

    name: str
    x: tuple[int, ...]
    weight: tuple[int, ...]


PROBES = (
    Probe("linear 768 -> 3072, 1 token", (1, 1, 768), (3072, 768)),
    Probe("linear 768 -> 768, 197 tokens", (1, 197, 768), (768, 768)),
    Probe("linear 768 -> 3072, 197 tokens", (1, 197, 768), (3072, 768)),
    Probe("linear 96 -> 384, 65 tokens", (1, 65, 96), (384, 96)),
    Probe("conv 3x3 64 -> 64, 56 x 56", (1, 64, 56, 56), (64, 64, 3, 3)),
    Probe("conv 1x1 1024 -> 256, 14 x 14", (1, 1024, 14, 14), (256, 1024, 1, 1)),
)


@dataclass(frozen=True)
class Machine:
    """What is installed and what the processor offers, with remarks on what that means."""

    cpu: str
    cpu_flags: tuple[str, ...]
    providers: tuple[str, ...]
    packages: Mapping[str, str]
    remarks: tuple[str, ...]


def examine_machine() -> Machine:
    """Read flags, providers and versions; nothing is measured."""
    flags, providers = cpu_flags(), tuple(onnxruntime.get_available_providers())
    names = ("onnxruntime", "onnxruntime-gpu", "onnx", "numpy", "torch", "tensorrt")
    packages = dict(_installed(names))
    return Machine(cpu_name(), flags, providers, packages, tuple(_remarks(flags, packages)))


def _installed(names: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for name in names:
        try:
            yield name, version(name)
        except PackageNotFoundError:
            continue


def _remarks(flags: tuple[str, ...], packages: Mapping[str, str]) -> Iterator[str]:
    if {"onnxruntime", "onnxruntime-gpu"} <= packages.keys():
        yield (
            "onnxruntime and onnxruntime-gpu are both installed and overwrite each other: "
            "uninstall both, then install the one you need"
        )
    if not FAST_INT8_FLAGS & set(flags):
        yield (
            "no integer dot product instructions (VNNI, AMX, dotprod): INT8 gains little here, "
            "and the table below decides"
        )
    if int8_overflows(flags):
        yield (
            "without VNNI, INT8 products are summed in 16 bits and can saturate: accuracy differs "
            "from processors with it; cpu targets take quantization.reduce_range: true here"
        )


def measure_formats(
    target: Target,
    *,
    probes: tuple[Probe, ...] = PROBES,
    repeats: int = 30,
    rng: np.random.Generator,
    watch: RunWatch | None = None,
) -> dict[str, dict[str, Latency]]:
    """Latency of every format of every probe, formats measured alternately: probe -> format."""
    table = {}
    for probe in probes:
        template, weights = one_layer(probe, rng)
        x = {"x": rng.standard_normal(probe.x).astype(np.float32)}
        sessions = {}
        for name, (precision, scheme) in variants(probe, target).items():
            policy, ranges = (
                QuantPolicy({"layer": precision}),
                Ranges({"x": (-4, 4), "sums": (-8, 8)}),
            )
            model = materialize(template, weights, policy, scheme, ranges)
            sessions[name] = open_session(model.SerializeToString(), target)
        inputs = dict.fromkeys(sessions, x)
        table[probe.name] = measure(sessions, inputs, repeats=repeats, watch=watch)
    return table


def variants(probe: Probe, target: Target) -> dict[str, tuple[Format, QuantScheme]]:
    """What the target can realise the layer in, by name, FP32 first."""
    kind, provider = "conv" if len(probe.weight) == 4 else "linear", target.runs_on
    return {
        variant.name: (entry, variant.scheme)
        for entry in reversed(provider.formats)
        for variant in entry.variants(provider.linears, provider.int4_kernels)
        if kind in variant.kinds
    }


def one_layer(probe: Probe, rng: np.random.Generator) -> tuple[Template, dict[str, Floats]]:
    """A template of a single layer, and random weights for it."""
    bias = "layer.bias"
    inputs = ["x", "layer.weight", bias]
    if len(probe.weight) == 4:
        edge = probe.weight[2] // 2
        layer = make_node("Conv", inputs, ["sums"], "layer", pads=[edge] * 4)
    else:
        layer = make_node("Linear", inputs, ["sums"], "layer", domain=DOMAIN)
    model = onnx.ModelProto()
    model.opset_import.add(domain="", version=23)
    model.graph.node.extend([layer, make_node("Flatten", ["sums"], ["logits"], "flat")])
    for node in model.graph.node:
        node.metadata_props.add(key="scope", value=node.name)
    shape = [None, None]
    model.graph.input.append(make_tensor_value_info("x", onnx.TensorProto.FLOAT, probe.x))
    model.graph.output.append(make_tensor_value_info("logits", onnx.TensorProto.FLOAT, shape))
    weight = rng.standard_normal(probe.weight).astype(np.float32) * np.float32(0.03)
    weights = {"layer.weight": weight, bias: np.zeros(probe.weight[0], np.float32)}
    return Template(model, {name: array.shape for name, array in weights.items()}, {}), weights


def render(machine: Machine, table: Mapping[str, Mapping[str, Latency]]) -> RenderableType:
    """Machine, remarks, and milliseconds per format with the speed-up over FP32."""
    facts = Table("", "", show_header=False)
    facts.add_row("processor", machine.cpu)
    facts.add_row("flags", " ".join(machine.cpu_flags) or "none that ONNX Runtime uses")
    facts.add_row("providers", " ".join(machine.providers))
    facts.add_row("targets", names_with_marks())
    facts.add_row("packages", ", ".join(f"{k} {v}" for k, v in machine.packages.items()))
    for remark in machine.remarks:
        facts.add_row("remark", remark)
    formats = list(dict.fromkeys(name for row in table.values() for name in row))
    speeds = Table("ms (x faster than fp32)", *formats)
    for probe, row in table.items():
        cells = [_cell(row.get(name), row.get("fp32")) for name in formats]
        speeds.add_row(probe, *cells)
    if any(latency.disturbed for row in table.values() for latency in row.values()):
        speeds.caption = f"* {DISTURBED_NOTE}"
    return Group(facts, speeds)


def _cell(latency: Latency | None, fp32: Latency | None) -> str:
    if latency is None or fp32 is None:
        return "-"
    figure = f"{latency.median_ms:.3f} ({fp32.median_ms / latency.median_ms:.1f}x)"
    return figure + "*" * (latency.disturbed or fp32.disturbed)
