"""`simqnas bench`: latency of one ONNX model, or of two side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
import onnxruntime
from rich.table import Table

from hardware.bench_inputs import options_for, random_inputs, refuse_unknown
from hardware.latency import DISTURBED_NOTE, Latency, Ratio, run_times
from hardware.run_watch import RunWatch
from hardware.session import Arrays, one_line_errors, open_session
from hardware.target import Target

ORT_FORMAT = b"ORTM"
"""What stands at byte 4 of a model in ONNX Runtime's own format."""


@dataclass(frozen=True)
class ModelLatency:
    """One measured file, external weights counted in its size."""

    path: Path
    latency: Latency
    size_bytes: int


@dataclass(frozen=True)
class Bench:
    """A model, the one it was measured against, and how much slower it is (below 1: faster)."""

    model: ModelLatency
    against: ModelLatency | None
    ratio: Ratio | None


def bench(
    model: Path,
    target: Target,
    *,
    against: Path | None = None,
    repeats: int = 90,
    sizes: Mapping[str, int] = MappingProxyType({}),
    rng: np.random.Generator,
    watch: RunWatch | None = None,
) -> Bench:
    """Measure a model, in turn with another one if given, on random inputs of their shapes.

    sizes: of axes that the models leave open, by name. Raises ValueError for a file that is no
    model that ONNX Runtime can load and run, and for sizes that are missing or do not fit.
    """
    paths = {"model": model} | ({"against": against} if against is not None else {})
    sessions = {name: _open(path, target) for name, path in paths.items()}
    refuse_unknown(sizes, sessions.values())
    inputs = {name: random_inputs(s, target, sizes, rng) for name, s in sessions.items()}
    for name, path in paths.items():
        _try(path, sessions[name], inputs[name])
    rounds = run_times(sessions, inputs, repeats=repeats, watch=watch)
    measured = {
        name: ModelLatency(path, rounds.latency(name), _size(path)) for name, path in paths.items()
    }
    compared = rounds.ratio("model", "against", rng) if against is not None else None
    return Bench(measured["model"], measured.get("against"), compared)


def render(result: Bench) -> Table:
    """The result as a table; two models whose interval holds 1 are not ranked."""
    table = Table("model", "median ms", "quartiles ms", "runs", "MB", "ratio (95 % interval)")
    rows = [(result.model, result.ratio)]
    if result.against is not None:
        rows.append((result.against, None))
    for row, compared in rows:
        spread = f"{row.latency.q1_ms:.3f} .. {row.latency.q3_ms:.3f}"
        table.add_row(
            row.path.name,
            f"{row.latency.median_ms:.3f}{'*' if row.latency.disturbed else ''}",
            spread,
            str(row.latency.repeats),
            f"{row.size_bytes / 1e6:.2f}",
            "" if compared is None else _ratio_text(compared),
        )
    if any(row.latency.disturbed for row, _ in rows) or (result.ratio and result.ratio.disturbed):
        table.caption = f"* {DISTURBED_NOTE}"
    return table


def _ratio_text(compared: Ratio) -> str:
    text = f"{compared.value:.3f} ({compared.low:.3f} .. {compared.high:.3f}): "
    if compared.verdict == "undecided":
        return text + "cannot be told apart, raise --repeats"
    return text + compared.verdict + ("*" if compared.disturbed else "")


def _open(path: Path, target: Target) -> onnxruntime.InferenceSession:
    if not path.is_file():
        kind = "a folder" if path.is_dir() else "no such file"
        raise ValueError(f"{path}: {kind}; give the path of an ONNX model")
    return open_session(path, target)


def _try(path: Path, session: onnxruntime.InferenceSession, inputs: Arrays) -> None:
    """Run once. Raises ValueError where the sizes do not go together, or a kernel refuses."""
    shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in inputs.items())
    options = options_for(session)
    others = f" (set others with {options})" if options else ""
    with one_line_errors(f"{path}: ONNX Runtime cannot run it on {shapes}{others}"):
        session.run(None, dict(inputs))


def _size(path: Path) -> int:
    """Bytes of a model and of the files beside it that hold its weights."""
    content = path.read_bytes()
    if content[4:8] == ORT_FORMAT:  # which keeps everything in one file
        return len(content)
    names = set(_external_files(onnx.ModelProto.FromString(content)))
    return len(content) + sum((path.parent / name).stat().st_size for name in names)


def _external_files(message: Any) -> Iterator[str]:
    """Names of all files with weights of any graph, function or attribute within a message."""
    if isinstance(message, onnx.TensorProto):
        yield from (entry.value for entry in message.external_data if entry.key == "location")
        return
    for field, value in message.ListFields():
        if field.type == field.TYPE_MESSAGE:
            for part in [value] if hasattr(value, "ListFields") else value:
                yield from _external_files(part)
