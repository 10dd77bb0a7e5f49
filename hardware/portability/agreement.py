"""Whether a model answers in another runtime as it did where it was measured."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto
from onnx.helper import make_graph, make_model, make_node, make_opsetid, make_tensor_value_info
from rich.table import Table

from hardware.portability.runtimes import (
    Arrays,
    DeploymentError,
    Runtime,
    parse_runtime,
)

SAMPLES_FILE = "samples.npz"
LOGITS, ALONE = "output.logits", "output.alone"
SAMPLES = 32
SAMPLE_BYTES = 1 << 20
"""Inputs shipped with a model: so many samples, or as many as this has room for, at least two."""
TOGETHER = 32
"""Samples that run at once where the batch is open, repeated if fewer are shipped: kernels that
take rows by the block go wrong from some number on (ONNX Runtime 1.23.2 on AMX: from 32)."""
FLOAT_TOLERANCE = 1e-4
"""Largest difference of logits where all is computed in FP32, relative above 1."""
LOW_TOLERANCE = 0.1
"""The same where a tensor is stored in fewer bits: the kernel of another version or processor may
round half a step the other way, and every later layer carries that on."""
LOW_PRECISION = {
    TensorProto.FLOAT16,
    TensorProto.INT8,
    TensorProto.UINT8,
    TensorProto.INT4,
}


VECTORS = "sentence_embedding"
"""The first output of an embedder."""


@dataclass(frozen=True)
class Samples:
    """Inputs by name, and the logits that the measured model gave for them.

    alone: those of the first sample without the others, `(1, ...)`: ranges that are found at run
    time are the whole batch's. None in folders of version 0.1.0.
    """

    inputs: Arrays
    logits: NDArray[np.float32]
    alone: NDArray[np.float32] | None = None

    @classmethod
    def of(cls, inputs: Arrays, answer: Callable[[Arrays], NDArray[np.float32]]) -> Samples:
        """The inputs with what a model answers."""
        first = {name: array[:1] for name, array in inputs.items()}
        return cls(inputs, answer(inputs), answer(first))

    @property
    def repeated(self) -> Samples:
        """The same, over and over until they are `TOGETHER`: what is found of a batch at run time
        is its least and its largest value, which repeating leaves as they are."""
        rows = np.arange(max(TOGETHER, len(self.logits))) % len(self.logits)
        inputs = {name: array[rows] for name, array in self.inputs.items()}
        return Samples(inputs, self.logits[rows], self.alone)

    def save(self, folder: Path) -> None:
        """Write `samples.npz` beside a model."""
        arrays = {**self.inputs, LOGITS: self.logits}
        if self.alone is not None:
            arrays[ALONE] = self.alone
        np.savez_compressed(folder / SAMPLES_FILE, **arrays)  # type: ignore[arg-type] # as above

    @classmethod
    def load(cls, folder: Path) -> Samples:
        """Read them back. Raises DeploymentError where they are missing or damaged."""
        path = folder / SAMPLES_FILE
        try:
            with np.load(path, allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in stored.files}
        except FileNotFoundError:
            raise DeploymentError(
                f"{path}: missing; `simqnas export` writes a model folder with it"
            ) from None
        except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise DeploymentError(f"{path}: damaged ({error}); export the model again") from None
        if LOGITS not in arrays:
            raise DeploymentError(f"{path}: holds no {LOGITS}; export the model again")
        logits, alone = arrays.pop(LOGITS), arrays.pop(ALONE, None)
        if any(array.shape[:1] != logits.shape[:1] for array in arrays.values()):
            raise DeploymentError(
                f"{path}: holds inputs and {LOGITS} of different numbers of samples; export the "
                "model again"
            )
        return cls(arrays, logits, alone)


def shipped_samples(sample_bytes: int) -> int:
    """How many samples of this size go with a model."""
    return int(np.clip(SAMPLE_BYTES // max(sample_bytes, 1), 2, SAMPLES))


@dataclass(frozen=True)
class Agreement:
    """One runtime beside the stored logits, of all samples at once and of the first alone.

    failure: why there is no answer. difference: largest difference of a logit; top1: share of
    samples with the same largest logit. Within the tolerance only samples can differ there whose
    two largest logits lie closer than twice that. cosine: the least of a vector and the stored one,
    of an embedder, which has no logits; of numbers there is neither.
    """

    runtime: str
    version: str = ""
    difference: float = np.nan
    tolerance: float = np.nan
    top1: float = np.nan
    median_ms: float = np.nan
    failure: str | None = None
    cosine: float = np.nan

    @property
    def alike(self) -> str:
        """How far answers are the same, in words; nothing where they are numbers."""
        if not np.isnan(self.cosine):
            return f"cosine {self.cosine:.6f}"
        return "-" if np.isnan(self.top1) else f"{self.top1:.1%} same top 1"

    @property
    def agrees(self) -> bool:
        """Whether the runtime may be named as one that the model runs in."""
        return self.failure is None and self.difference <= self.tolerance

    def to_json(self) -> dict[str, object]:
        """Plain values; None for what was not measured."""
        plain = {**asdict(self), "agrees": self.agrees}
        return {name: None if value != value else value for name, value in plain.items()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Inverse of `to_json`."""
        names = (name for name in cls.__dataclass_fields__ if data.get(name) is not None)
        return cls(**{name: data[name] for name in names})


def ready_runtimes(names: Sequence[str]) -> list[Runtime]:
    """The runtimes of these names, each of which has run a model of one node.

    Raises DeploymentError with a line for every one that is unknown, not installed or broken.
    """
    runtimes, wrong = [], []
    for name in names:
        try:
            runtime = parse_runtime(name)
            _try(runtime)
            runtimes.append(runtime)
        except DeploymentError as error:
            wrong.append(f"export.verify: {error}")
    if wrong:
        raise DeploymentError("\n".join(wrong))
    return runtimes


@cache
def _try(runtime: Runtime) -> None:
    """Run the smallest model there is, once in a process. Raises DeploymentError."""
    x, y = (make_tensor_value_info(n, TensorProto.FLOAT, ["n", 1]) for n in ("x", "logits"))
    graph = make_graph([make_node("Relu", ["x"], ["logits"])], "smallest", [x], [y])
    model = make_model(graph, opset_imports=[make_opsetid("", 13)], ir_version=7)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(model, str(path))
        runtime.run(path, {"x": np.ones((1, 1), np.float32)})


def verify_folder(folder: Path, runtimes: Sequence[Runtime]) -> list[Agreement]:
    """Run a model folder's stored inputs in every runtime.

    Raises DeploymentError for files that are missing or do not belong together.
    """
    if not folder.is_dir():
        raise DeploymentError(f"{folder}: is no folder; give one of a run's models/<key>/")
    return compare(folder / "model.onnx", Samples.load(folder), runtimes)


def compare(model: Path, samples: Samples, runtimes: Sequence[Runtime]) -> list[Agreement]:
    """The same for a model and samples at hand."""
    graph = _graph(model, samples)
    tolerance = _tolerance(graph, samples)
    if all(value.type.tensor_type.shape.dim[0].dim_param for value in graph.input):
        samples = samples.repeated
    vectors = graph.output[0].name == VECTORS
    return [_compare_one(model, samples, runtime, tolerance, vectors) for runtime in runtimes]


def _compare_one(
    model: Path, samples: Samples, runtime: Runtime, tolerance: float, vectors: bool
) -> Agreement:
    try:
        answer = runtime.run(model, samples.inputs)
    except DeploymentError as error:
        return Agreement(str(runtime), failure=str(error))
    pairs = [(answer.logits, samples.logits)]
    if samples.alone is not None:
        pairs.append((answer.alone, samples.alone))
    for found, stored in pairs:
        if found.shape != stored.shape:
            shapes = f"the shape {list(found.shape)}, the stored ones {list(stored.shape)}"
            reason = f"{runtime}: logits have {shapes}"
            return Agreement(str(runtime), answer.version, failure=reason)
    differences = [np.abs(found - stored).max() for found, stored in pairs]
    return Agreement(
        str(runtime),
        answer.version,
        float(np.max(differences)),  # nan, which is within no tolerance, goes through
        tolerance,
        np.nan if vectors else _same_top1(answer.logits, samples.logits),
        answer.median_ms,
        cosine=_least_cosine(answer.logits, samples.logits) if vectors else np.nan,
    )


def _same_top1(found: NDArray[np.float32], stored: NDArray[np.float32]) -> float:
    """Share of samples, or tokens, with the same largest logit; NaN where there is one alone."""
    if found.shape[-1] == 1:
        return np.nan
    return float((found.argmax(axis=-1) == stored.argmax(axis=-1)).mean())


def _least_cosine(found: NDArray[np.float32], stored: NDArray[np.float32]) -> float:
    lengths = np.linalg.norm(found, axis=-1) * np.linalg.norm(stored, axis=-1)
    return float(((found * stored).sum(axis=-1) / lengths).min())


def _graph(path: Path, samples: Samples) -> onnx.GraphProto:
    """The model's graph. Raises DeploymentError for files that do not belong together."""
    try:
        graph = onnx.load(str(path), load_external_data=False).graph
    except FileNotFoundError:
        raise DeploymentError(f"{path}: missing; give a folder that `simqnas` wrote") from None
    except Exception as error:  # protobuf's own, a different one in every version
        raise DeploymentError(f"{path}: is no ONNX model ({type(error).__name__})") from None
    names = {value.name for value in graph.input}
    if names != set(samples.inputs):
        raise DeploymentError(
            f"{path.parent}: {SAMPLES_FILE} holds {sorted(samples.inputs)}, the model asks for "
            f"{sorted(names)}; they do not belong together, export the model again"
        )
    return graph


def _tolerance(graph: onnx.GraphProto, samples: Samples) -> float:
    """What logits may differ by."""
    low = any(tensor.data_type in LOW_PRECISION for tensor in graph.initializer)
    largest = max(1.0, float(np.abs(samples.logits).max()))
    return (LOW_TOLERANCE if low else FLOAT_TOLERANCE) * largest


def render(found: Sequence[Agreement]) -> Table:
    """One line per runtime."""
    table = Table()
    table.add_column("runtime", overflow="fold")  # it may end in a path
    for title in ("version", "largest difference", "allowed", "answers", "median ms"):
        table.add_column(title)
    for row in found:
        if row.failure is not None:
            table.add_row(row.runtime, row.version, "does not run", "", "", "")
            continue
        table.add_row(
            row.runtime,
            row.version,
            f"{row.difference:.2g}" + ("" if row.agrees else " (differs)"),
            f"{row.tolerance:.2g}",
            row.alike,
            f"{row.median_ms:.3f}",
        )
    return table


def problems(found: Sequence[Agreement]) -> list[str]:
    """A line for every runtime that the model must not be said to run in."""
    lines = []
    for row in found:
        if row.failure is not None:
            lines.append(row.failure)
        elif not row.agrees:
            lines.append(
                f"{row.runtime} {row.version}: logits differ by {row.difference:.2g}, allowed are "
                f"{row.tolerance:.2g}; answers: {row.alike}"
            )
    return lines
