"""Where the bytes and the time of an exported model are, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypedDict

import onnx

from hardware.kernel_profile import what_ran
from hardware.session import Arrays
from hardware.target import Target
from hardware.writing.verify import format_of, read_layers


class LayerProfile(TypedDict):
    """Of one layer: name of its format, bytes of its weight, milliseconds in one inference,
    multiply-accumulates for one sample.

    milliseconds is None where the provider does not tell which layer a kernel serves.
    """

    format: str
    weight_bytes: float
    milliseconds: float | None
    macs: float


def profile_layers(
    path: Path, target: Target, inputs: Arrays | None, macs: Mapping[str, float]
) -> dict[str, LayerProfile]:
    """Layer -> what it takes, in execution order; all else is under the empty name, its bytes those
    of the rest.

    inputs: None where the target is another machine, which leaves the times out. They are of one
    profiled inference: shares tell more than the sum, profiling slows every kernel a little.
    """
    stored = read_layers(onnx.load(str(path), load_external_data=False))
    spent = {} if inputs is None else _times(path, target, inputs)
    found = {
        name: LayerProfile(
            format=format_of(name, layer).name,
            weight_bytes=layer.stored_bits / 8,
            milliseconds=spent.get(name, 0.0) if spent else None,
            macs=macs[name],
        )
        for name, layer in stored.items()
    }
    rest = path.stat().st_size - sum(layer["weight_bytes"] for layer in found.values())
    found[""] = LayerProfile(
        format="",
        weight_bytes=max(rest, 0.0),
        milliseconds=spent.get("") if spent else None,
        macs=macs[""],
    )
    return found


def _times(path: Path, target: Target, inputs: Arrays) -> dict[str, float]:
    """Milliseconds by layer; empty where the provider does not tell whose a kernel is."""
    spent: dict[str, float] = {}
    for kernel in what_ran(path, inputs, target, allow_fallback=True).kernels:
        name = kernel.layer or ""
        spent[name] = spent.get(name, 0.0) + kernel.milliseconds
    return spent if spent.keys() - {""} else {}
