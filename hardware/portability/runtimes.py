"""The runtimes a model may be deployed in: found on this machine, each run in its own process."""

from __future__ import annotations

import base64
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[np.generic]]

HERE = Path(__file__).parent
TIMEOUT_S = 600


class DeploymentError(ValueError):
    """A runtime that is not there, is broken, or does not open the model."""


@dataclass(frozen=True)
class Answer:
    """What one runtime made of the stored inputs: logits `(n_samples, ...)`, those of the first
    sample run alone `(1, ...)`, and the latency of that."""

    version: str
    logits: NDArray[np.float32]
    alone: NDArray[np.float32]
    median_ms: float


@dataclass(frozen=True)
class Runtime:
    """One runtime, and where it is installed; None means where everybody finds it.

    place: for a Python runtime the folder of `pip install --target`, or an interpreter; for one of
    node's the folder in which `npm install` was run.
    """

    name: str
    place: Path | None = None

    def __str__(self) -> str:
        return self.name if self.place is None else f"{self.name}@{self.place}"

    def run(self, model: Path, inputs: Arrays) -> Answer:
        """Run a model file in a process of its own. Raises DeploymentError with the reason."""
        with TemporaryDirectory() as folder:
            if self.name in PYTHON_RUNTIMES:
                return self._in_python(model, inputs, Path(folder))
            return self._in_node(model, inputs, Path(folder))

    def _in_python(self, model: Path, inputs: Arrays, folder: Path) -> Answer:
        stored, answered = folder / "inputs.npz", folder / "outputs.npz"
        np.savez(stored, **inputs)  # type: ignore[arg-type] # numpy's stub forbids names it allows
        interpreter, environment = sys.executable, dict(os.environ)
        if self.place is not None and self.place.is_dir():
            environment["PYTHONPATH"] = str(self.place)
        elif self.place is not None:
            interpreter = str(self.place)
            environment.pop("PYTHONPATH", None)
        script = HERE / "run_in_python.py"
        self._call([interpreter, script, self.name, model, stored, answered], environment)
        with np.load(answered, allow_pickle=False) as answer:
            median = float(np.median(answer["milliseconds"]))
            return Answer(str(answer["version"]), answer["logits"], answer["alone"], median)

    def _in_node(self, model: Path, inputs: Arrays, folder: Path) -> Answer:
        stored, answered = folder / "inputs.json", folder / "outputs.json"
        stored.write_text(json.dumps({name: _as_json(array) for name, array in inputs.items()}))
        script, place = HERE / "run_in_node.mjs", self.place or Path.cwd()
        self._call(["node", script, self.name, place.resolve(), model, stored, answered])
        answer = json.loads(answered.read_text(encoding="utf-8"))
        logits, alone = (
            np.array(answer[name]["values"], np.float32).reshape(answer[name]["shape"])
            for name in ("logits", "alone")
        )
        return Answer(answer["version"], logits, alone, float(np.median(answer["milliseconds"])))

    def _call(
        self, command: Sequence[str | Path], environment: Mapping[str, str] | None = None
    ) -> None:
        try:
            done = subprocess.run(
                [str(part) for part in command],
                env=environment,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=TIMEOUT_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise DeploymentError(f"{self}: could not be run ({error})") from None
        if done.returncode:
            raise DeploymentError(f"{self}: {_reason(done.stderr, done.returncode)}")


def _as_json(array: NDArray[np.generic]) -> dict[str, object]:
    content = base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()
    return {"type": str(array.dtype), "shape": list(array.shape), "bytes": content}


def _reason(stderr: str, code: int) -> str:
    """The line of a traceback that says what went wrong."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    told = [line for line in lines if "Error" in line or "[ONNXRuntimeError]" in line]
    if not lines:
        return f"ended with code {code} and no message"
    return (told or lines)[-1][:300]


PYTHON_RUNTIMES = ("onnxruntime", "openvino")
NODE_RUNTIMES = ("onnxruntime-node", "onnxruntime-web")
RUNTIMES = (*PYTHON_RUNTIMES, *NODE_RUNTIMES)


def runtime_named(text: str) -> Runtime:
    """`NAME` or `NAME@PLACE`, there or not. Raises DeploymentError for an unknown name."""
    name, _, place = text.partition("@")
    if name not in RUNTIMES:
        raise DeploymentError(
            f"{text}: no runtime of this name is known; known are {', '.join(RUNTIMES)}, "
            "each with @PLACE behind it where it is installed elsewhere"
        )
    return Runtime(name, Path(place) if place else None)


def parse_runtime(text: str) -> Runtime:
    """The same; raises DeploymentError for a place that does not exist, too."""
    runtime = runtime_named(text)
    name, place = runtime.name, runtime.place
    if place is not None and not place.exists():
        raise DeploymentError(f"{text}: {place} does not exist")
    if place is None and not _is_installed(name):
        raise DeploymentError(
            f"{name}: is not installed here; {_how_to_install(name)}, or name its place: "
            f"{name}@PLACE"
        )
    return runtime


def installed_runtimes() -> list[Runtime]:
    """Every runtime that is found here without being told where."""
    return [Runtime(name) for name in RUNTIMES if _is_installed(name)]


def _is_installed(name: str) -> bool:
    if name in PYTHON_RUNTIMES:
        return importlib.util.find_spec(name) is not None
    return shutil.which("node") is not None and (Path("node_modules") / name).is_dir()


def _how_to_install(name: str) -> str:
    if name in PYTHON_RUNTIMES:
        return f"`pip install {name}`"
    return f"run `npm install {name}` in this folder (node has to be there)"
