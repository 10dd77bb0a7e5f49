"""Which INT4 kernel a target runs faster: measured on the network itself, and remembered."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import onnxruntime
from filelock import FileLock

from hardware.files import write_atomically
from hardware.formats.int4 import INT4, block_size
from hardware.formats.policy import QuantPolicy
from hardware.formats.scheme import Int4Kernel, QuantScheme
from hardware.graph.layer import Layer
from hardware.graph.static_activations import Ranges
from hardware.graph.template import Template
from hardware.latency import METHOD, Latency, measure
from hardware.portability.kernels import lacking_kernels
from hardware.portability.runtimes import Runtime
from hardware.run_watch import RunWatch
from hardware.session import Arrays, open_session
from hardware.target import Target
from hardware.writing.materialize import Weights, materialize


@dataclass(frozen=True)
class KernelChoice:
    """The faster kernel, and the latencies it was chosen by."""

    kernel: Int4Kernel
    latencies: dict[str, Latency]


def choose_int4_kernel(
    template: Template,
    weights: Weights,
    scheme: QuantScheme,
    target: Target,
    inputs: Arrays,
    *,
    ranges: Ranges | None = None,
    runtimes: Sequence[Runtime] = (),
    cache: Path | None = None,
    repeats: int = 30,
    watch: RunWatch | None = None,
) -> KernelChoice:
    """Measure the network with all linears in INT4 under both kernels, alternately.

    `inputs` are those of one inference on the target. Kernels that one of `runtimes` lacks are
    left out; the only one that is left is not measured.
    `cache` is a JSON file of earlier answers, valid for the same layer shapes, scheme, target,
    processor, library version and way of measuring; disturbed latencies are not remembered.
    Raises ValueError where the scheme's group size rules out one of the two, or the runtimes all.
    """
    kernels = _everywhere(scheme, target.runs_on.int4_kernels, runtimes)
    if len(kernels) == 1:
        return KernelChoice(kernels[0], {})
    block_size(scheme)

    def measured() -> KernelChoice:
        return _measure(template, weights, scheme, target, inputs, ranges, repeats, watch)

    if cache is None:
        return measured()
    cache.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(cache.with_name(cache.name + ".lock")):  # no process undoes another's entry
        return _remembered(cache, _key(_layers(template, weights), scheme, target), measured)


def _everywhere(
    scheme: QuantScheme, kernels: Sequence[Int4Kernel], runtimes: Sequence[Runtime]
) -> list[Int4Kernel]:
    """Those of the kernels that every runtime has. Raises ValueError where there is none."""
    lacking = {
        kernel: lacking_kernels(scheme.with_int4_kernel(kernel), [INT4], runtimes)
        for kernel in kernels
    }
    found = [kernel for kernel, lines in lacking.items() if not lines]
    if not found:
        raise ValueError("\n".join(line for lines in lacking.values() for line in lines))
    return found


def _remembered(cache: Path, key: str, measured: Callable[[], KernelChoice]) -> KernelChoice:
    known = json.loads(cache.read_text()) if cache.is_file() else {}
    if key in known:
        found = {name: Latency(**entry) for name, entry in known[key]["latencies"].items()}
        return KernelChoice(known[key]["kernel"], found)
    choice = measured()
    if not any(latency.disturbed for latency in choice.latencies.values()):
        known[key] = asdict(choice)
        write_atomically(cache, json.dumps(known, indent=2))
    return choice


def _measure(
    template: Template,
    weights: Weights,
    scheme: QuantScheme,
    target: Target,
    inputs: Arrays,
    ranges: Ranges | None,
    repeats: int,
    watch: RunWatch | None,
) -> KernelChoice:
    int4 = QuantPolicy.uniform([layer.name for layer in _layers(template, weights)], INT4)
    kernels = target.runs_on.int4_kernels
    sessions: dict[str, onnxruntime.InferenceSession] = {}
    for kernel in kernels:
        model = materialize(template, weights, int4, scheme.with_int4_kernel(kernel), ranges)
        sessions[kernel] = open_session(model.SerializeToString(), target)
    latencies = measure(sessions, dict.fromkeys(kernels, inputs), repeats=repeats, watch=watch)
    fastest = min(kernels, key=lambda kernel: latencies[kernel].median_ms)
    return KernelChoice(fastest, latencies)


def _layers(template: Template, weights: Weights) -> list[Layer]:
    """Layers of the network at hand: a space may leave out the template's last blocks."""
    return [layer for layer in template.layers if f"{layer.name}.weight" in weights]


def _key(layers: Sequence[Layer], scheme: QuantScheme, target: Target) -> str:
    """Hash of all that the answer depends on."""
    facts = {
        "layers": layers,
        "scheme": scheme.with_int4_kernel(target.runs_on.int4_kernels[0]).model_dump(),
        "target": target.describe(),
        "method": METHOD,
    }
    canonical = json.dumps(facts, sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]
