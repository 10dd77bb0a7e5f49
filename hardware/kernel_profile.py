"""What really ran: every kernel of a profiled inference, its provider, and the layer it serves."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx
import onnxruntime

from hardware.formats.format import Format
from hardware.providers import find_provider
from hardware.session import Arrays, open_session, run
from hardware.target import Target
from hardware.writing.verify import format_of, read_layers

INTEGER_KERNELS = {
    "DynamicQuantizeMatMul",
    "MatMulIntegerToFloat",
    "MatMulInteger",
    "QLinearMatMul",
    "QLinearConv",
    "QGemm",
    "MatMulNBits",
}
FLOAT_KERNELS = {"MatMul", "FusedMatMul", "Gemm", "FusedGemm", "Conv", "FusedConv"}


class FallbackError(ValueError):
    """A layer or node did not run as it was asked to."""


@dataclass(frozen=True)
class Kernel:
    """One executed kernel; `layer` is None for what belongs to no quantizable layer."""

    operator: str
    provider: str
    layer: str | None
    milliseconds: float
    integer_output: bool


@dataclass(frozen=True)
class Attribution:
    """All kernels of one inference, and what of it was not asked for; where the provider compiles,
    how many nodes of the graph every provider took, if this ONNX Runtime tells (1.24 and newer)."""

    kernels: tuple[Kernel, ...]
    fallbacks: tuple[str, ...]
    nodes: Mapping[str, int] = field(default_factory=dict)


def what_ran(
    path: str | Path, inputs: Arrays, target: Target, *, allow_fallback: bool = False
) -> Attribution:
    """Profile one inference of a model file.

    Raises FallbackError naming each layer that was asked for integers and computed in float, and
    each node that another provider than the target's ran; `allow_fallback` only reports them.
    Layers that no input reaches run when a session loads, and not here. Where the provider compiles
    sub-graphs, kernels have no layers and the second alone is known.
    """
    stored = read_layers(onnx.load(str(path), load_external_data=False))
    formats = {name: format_of(name, layer) for name, layer in stored.items()}
    without = {name for name, layer in stored.items() if layer.lookup or layer.constant}
    asked = {name for name, entry in formats.items() if entry.integer and name not in without}
    named = find_provider(target.provider).names_kernels
    with TemporaryDirectory() as folder:
        ran = _optimize(Path(path), Path(folder), target) if named else Path(path)
        session = _profiled_session(ran, Path(folder), target, optimize=not named)
        events = _profile(session, inputs)
        graph = onnx.load(ran, load_external_data=False)
        kernels = tuple(_kernels(graph, events, formats))
    fallbacks = tuple(_other_providers(kernels, target))
    nodes = {} if named else _assigned(session)
    if nodes and target.execution_provider not in nodes:
        fallbacks = (f"network: no node ran on {target.execution_provider}", *fallbacks)
    if named:
        fallbacks = (*_float_layers(kernels, {name: formats[name] for name in asked}), *fallbacks)
    if fallbacks and not allow_fallback:
        raise FallbackError(
            "not everything ran as asked (allow_fallback: true accepts it):\n  "
            + "\n  ".join(fallbacks)
        )
    return Attribution(kernels, fallbacks, nodes)


def _optimize(path: Path, folder: Path, target: Target) -> Path:
    """Let ONNX Runtime write the graph it will run, every node with a name of its own."""
    optimized, options = folder / "optimized.onnx", onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(optimized)
    options.add_session_config_entry(
        "session.optimized_model_external_initializers_file_name", "optimized.bin"
    )
    open_session(path, target, options)
    model = onnx.load(optimized, load_external_data=False)
    for position, node in enumerate(model.graph.node):
        node.name = f"node{position}"
    optimized.write_bytes(model.SerializeToString())
    return optimized


def _profiled_session(
    path: Path, folder: Path, target: Target, *, optimize: bool
) -> onnxruntime.InferenceSession:
    """A session of a graph as it is, or optimized when it loads."""
    options = onnxruntime.SessionOptions()
    if not optimize:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.enable_profiling = True
    options.profile_file_prefix = str(folder / "profile")
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    return open_session(path, target, options)


def _assigned(session: onnxruntime.InferenceSession) -> dict[str, int]:
    """Nodes that every provider took; empty where this ONNX Runtime does not tell."""
    tell = getattr(session, "get_provider_graph_assignment_info", None)
    counts: Counter[str] = Counter()
    for subgraph in tell() if tell else ():
        counts[subgraph.ep_name] += len(subgraph.get_nodes())
    return dict(counts)


def _profile(session: onnxruntime.InferenceSession, inputs: Arrays) -> list[dict[str, object]]:
    """Events of the second of two inferences."""
    for _ in range(2):
        run(session, inputs)
    events = json.loads(Path(session.end_profiling()).read_text())
    suffix = "_kernel_time"
    kernels = [event for event in events if str(event.get("name", "")).endswith(suffix)]
    return [{**e, "name": e["name"].removesuffix(suffix)} for e in kernels[len(kernels) // 2 :]]


def _kernels(
    model: onnx.ModelProto, events: Iterable[Mapping[str, object]], layers: Iterable[str]
) -> Iterable[Kernel]:
    nodes = {node.name: node for node in model.graph.node if node.name}
    known = set(layers)
    for event in events:
        details, duration = event["args"], event["dur"]
        assert isinstance(details, dict)
        assert isinstance(duration, int | float)
        node = nodes.get(str(event["name"]))
        yield Kernel(
            operator=details["op_name"],
            provider=details["provider"],
            layer=None if node is None else _layer(node, known),
            milliseconds=duration / 1e3,
            integer_output=_only_integers(details.get("output_type_shape", [])),
        )


def _layer(node: onnx.NodeProto, layers: set[str]) -> str | None:
    """The layer whose parameters the node reads, or else whose inner values it touches.

    Other names are no evidence: sessions share equal constants among layers.
    """
    names = [*node.input, *node.output]
    for suffix in (".weight", ".scale", ".bias"):
        for name in names:
            if name.endswith(suffix) and name.removesuffix(suffix) in layers:
                return str(name.removesuffix(suffix))
    inner = (str(name).rpartition("/")[0] for name in names)
    return next((owner for owner in inner if owner in layers), None)


def _only_integers(outputs: Iterable[Mapping[str, object]]) -> bool:
    kinds = {kind for output in outputs for kind in output}
    return bool(kinds) and kinds <= {"int64", "int32", "bool"}


def _float_layers(kernels: Iterable[Kernel], asked: Mapping[str, Format]) -> Iterable[str]:
    ran: dict[str, set[str]] = {name: set() for name in asked}
    for kernel in kernels:
        if kernel.layer in ran:
            ran[kernel.layer].add(kernel.operator)
    for name, operators in ran.items():
        if operators & FLOAT_KERNELS or not operators & INTEGER_KERNELS:
            seen = sorted(operators) or "no kernel of its own"
            yield f"{name}: stored as {asked[name]}, ran as {seen}"


def _other_providers(kernels: Iterable[Kernel], target: Target) -> Iterable[str]:
    """Arithmetic on shapes is left out: GPU providers keep it on the processor on purpose."""
    for kernel in kernels:
        if kernel.provider != target.execution_provider and not kernel.integer_output:
            yield f"{kernel.layer or 'network'}: {kernel.operator} ran on {kernel.provider}"
