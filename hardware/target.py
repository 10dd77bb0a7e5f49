"""The device a model is measured for, and what it can run."""

from __future__ import annotations

import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

import onnxruntime

from hardware.formats.precision import Precision

Provider = Literal["cpu", "cuda", "tensorrt"]

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
WHEELS = {
    "cpu": "onnxruntime",
    "cuda": "onnxruntime-gpu (after `pip uninstall onnxruntime`: the two overwrite each other)",
    "tensorrt": "onnxruntime-gpu and tensorrt (after `pip uninstall onnxruntime`)",
}
PRECISIONS = {
    "cpu": (Precision.INT4, Precision.INT8, Precision.FP32),
    "cuda": (Precision.INT4, Precision.FP16, Precision.FP32),
    "tensorrt": (Precision.INT8, Precision.FP16, Precision.FP32),
}
CPU_FLAGS = ("avx2", "avx_vnni", "avx512f", "avx512_vnni", "amx_int8", "asimddp", "i8mm", "sve")
"""Flags that decide which integer kernel ONNX Runtime takes."""


class TargetError(ValueError):
    """The target cannot run what was asked of it."""


@dataclass(frozen=True)
class Target:
    """Where and how a model is served; sizes that a model does not have stay None."""

    provider: Provider = "cpu"
    threads: int = 1
    batch_size: int = 1
    sequence_length: int | None = None
    image_size: int | None = None

    def __post_init__(self) -> None:
        if self.provider not in PROVIDERS:
            raise TargetError(
                f"target.provider: {self.provider!r} is unknown; allowed: {list(PROVIDERS)}"
            )
        for name in ("threads", "batch_size", "sequence_length", "image_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise TargetError(f"target.{name}: must be at least 1, got {value}")

    @property
    def precisions(self) -> tuple[Precision, ...]:
        """What the provider computes faster or stores smaller, and FP32."""
        return PRECISIONS[self.provider]

    @property
    def references(self) -> tuple[Precision, Precision]:
        """What models are compared with: FP32, and fully INT8 (FP16 where there is no INT8)."""
        low = Precision.INT8 if Precision.INT8 in self.precisions else Precision.FP16
        return Precision.FP32, low

    @property
    def execution_provider(self) -> str:
        """ONNX Runtime's name of the provider. Raises TargetError if this install lacks it."""
        name = PROVIDERS[self.provider]
        available = onnxruntime.get_available_providers()
        if name not in available:
            raise TargetError(
                f"target.provider: {self.provider!r} needs {name}, and this ONNX Runtime "
                f"{onnxruntime.__version__} has only {available}; install the wheel "
                f"{WHEELS[self.provider]}"
            )
        return name

    def describe(self) -> dict[str, object]:
        """Target, processor and versions, as every measurement carries them."""
        return {
            **asdict(self),
            "cpu": cpu_name(),
            "cpu_flags": list(cpu_flags()),
            "onnxruntime": onnxruntime.__version__,
        }


def parse_target(
    provider: str,
    threads: int = 1,
    batch_size: int = 1,
    sequence_length: int | None = None,
    image_size: int | None = None,
) -> Target:
    """A target from words and numbers of the command line. Raises TargetError."""
    for known in get_args(Provider):
        if known == provider:
            return Target(known, threads, batch_size, sequence_length, image_size)
    raise TargetError(f"target.provider: {provider!r} is unknown; allowed: {list(PROVIDERS)}")


def cpu_flags(info: Path = Path("/proc/cpuinfo")) -> tuple[str, ...]:
    """Those of `CPU_FLAGS` that this processor has; empty where the system does not tell."""
    words = set(_cpu_field(("flags", "features"), info).split())
    return tuple(flag for flag in CPU_FLAGS if flag in words)


def cpu_name(info: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's model name, or its architecture where the system does not tell."""
    return _cpu_field(("model name",), info) or platform.processor() or platform.machine()


def _cpu_field(names: tuple[str, ...], info: Path) -> str:
    if not info.exists():
        return ""
    for line in info.read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip().lower() in names:
            return value.strip()
    return ""
