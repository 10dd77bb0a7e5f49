"""`simqnas bench`: latency of one ONNX model, or of two side by side."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from rich.table import Table

from hardware.latency import Latency, Ratio, calm, ratio, run_times
from hardware.session import open_session
from hardware.target import Target

DEFAULT_SEQUENCE_LENGTH = 128
TYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(uint8)": np.uint8,
    "tensor(bool)": np.bool_,
}


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
    rng: np.random.Generator,
    clock: Callable[[], float] = time.perf_counter,
) -> Bench:
    """Measure a model, alternately with another one if given, on random inputs of their shapes.

    Raises ValueError for a file that is missing or no model that ONNX Runtime can load.
    """
    paths = {"model": model} | ({"against": against} if against is not None else {})
    sessions = {name: _open(path, target) for name, path in paths.items()}
    inputs = {name: random_inputs(session, target, rng) for name, session in sessions.items()}
    times = run_times(sessions, inputs, repeats=repeats, clock=clock)
    measured = {
        name: ModelLatency(path, Latency.of(*calm(times[name])), _size(path))
        for name, path in paths.items()
    }
    compared = ratio(times["model"], times["against"], rng) if against is not None else None
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
            f"{row.latency.median_ms:.3f}",
            spread,
            str(row.latency.repeats),
            f"{row.size_bytes / 1e6:.2f}",
            "" if compared is None else _ratio_text(compared),
        )
    return table


def _ratio_text(compared: Ratio) -> str:
    text = f"{compared.value:.3f} ({compared.low:.3f} .. {compared.high:.3f}): "
    if compared.verdict == "undecided":
        return text + "cannot be told apart, raise --repeats"
    return text + compared.verdict


def random_inputs(
    session: onnxruntime.InferenceSession, target: Target, rng: np.random.Generator
) -> dict[str, NDArray[np.generic]]:
    """Inputs of the shapes a session declares, dynamic axes filled in from the target.

    Floats are normal; masks are ones and other integers zero, the one id every table has.
    """
    return {
        value.name: _random_array(value.name, TYPES[value.type], _sizes(value, target), rng)
        for value in session.get_inputs()
    }


def _random_array(
    name: str, kind: type[np.generic], shape: list[int], rng: np.random.Generator
) -> NDArray[np.generic]:
    if np.issubdtype(kind, np.floating):
        return rng.standard_normal(shape).astype(kind)
    return np.full(shape, "mask" in name, kind)


def _sizes(value: onnxruntime.NodeArg, target: Target) -> list[int]:
    filled = {
        "batch": target.batch_size,
        "sequence": target.sequence_length or DEFAULT_SEQUENCE_LENGTH,
        "height": target.image_size,
        "width": target.image_size,
    }
    sizes = [size if isinstance(size, int) else filled.get(size) for size in value.shape]
    if None in sizes:
        raise ValueError(
            f"input {value.name} has shape {value.shape}: sizes other than {sorted(filled)} are "
            "unknown; export the model with those names (height and width need --image-size)"
        )
    return [int(size) for size in sizes if size is not None]


def _open(path: Path, target: Target) -> onnxruntime.InferenceSession:
    if not path.is_file():
        raise ValueError(f"{path}: no such file; give the path of an ONNX model")
    try:
        return open_session(path, target)
    except (
        onnxruntime.capi.onnxruntime_pybind11_state.InvalidProtobuf,
        onnxruntime.capi.onnxruntime_pybind11_state.InvalidGraph,
        onnxruntime.capi.onnxruntime_pybind11_state.Fail,
        onnxruntime.capi.onnxruntime_pybind11_state.NotImplemented,
    ) as error:
        raise ValueError(f"{path}: ONNX Runtime cannot load it: {error}") from error


def _size(path: Path) -> int:
    beside = path.with_name(path.name + ".data")
    return path.stat().st_size + (beside.stat().st_size if beside.is_file() else 0)
