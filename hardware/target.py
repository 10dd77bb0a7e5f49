"""The device a model is measured for, and what it can run."""

from __future__ import annotations

import platform
from collections.abc import Collection
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import onnxruntime
from pydantic import AfterValidator, Field, ValidationError

from hardware.formats.format import Format
from hardware.formats.fp32 import FP32
from hardware.providers import PROVIDERS, Provider, find_provider, names_with_marks
from hardware.settings import Settings

CPU_FLAGS = ("avx2", "avx_vnni", "avx512f", "avx512_vnni", "amx_int8", "asimddp", "i8mm", "sve")
"""Flags that decide which integer kernel ONNX Runtime takes."""
FAST_INT8_FLAGS = {"avx_vnni", "avx512_vnni", "amx_int8", "asimddp", "i8mm"}
OLD_X86_FLAGS = {"avx2", "avx512f"}


class TargetError(ValueError):
    """The target cannot run what was asked of it."""


def _known(name: str) -> str:
    find_provider(name)
    return name


class Target(Settings):
    """The device the models are for, and how they are served there.

    Sizes that a model does not have stay None.
    """

    provider: Annotated[str, AfterValidator(_known)] = Field(
        "cpu",
        description="ONNX Runtime execution provider; a missing one is an error. "
        f"There are {names_with_marks()}.",
        json_schema_extra=lambda schema: schema.update(enum=list(PROVIDERS)),
    )
    threads: int = Field(1, ge=1, le=1024, description="Threads of one inference.")
    batch_size: int = Field(
        1, ge=1, le=4096, description="Inputs per inference, for latency and for accuracy."
    )
    sequence_length: int | None = Field(
        None, ge=1, description="Tokens per text at which latency is measured (text only)."
    )
    image_size: int | None = Field(
        None, ge=1, description="Image height and width in pixels; default: the checkpoint's."
    )

    @property
    def runs_on(self) -> Provider:
        """What the target's provider can do."""
        return find_provider(self.provider)

    @property
    def references(self) -> tuple[Format, Format]:
        """What models are compared with: FP32, and all layers in the usual low precision."""
        return FP32, self.runs_on.low_reference

    @property
    def execution_provider(self) -> str:
        """ONNX Runtime's name of the provider. Raises TargetError if this install lacks it."""
        name, plugin = self.runs_on.execution_provider, self.runs_on.plugin
        if plugin and plugin_device(name, plugin):
            return name
        available = onnxruntime.get_available_providers()
        if name not in available:
            raise TargetError(
                f"target.provider: {self.provider!r} needs {name}, and this ONNX Runtime "
                f"{onnxruntime.__version__} has only {available}; install the wheel "
                f"{self.runs_on.wheel}"
            )
        return name

    def describe(self) -> dict[str, object]:
        """Target, processor and versions, as every measurement carries them."""
        return {
            **self.model_dump(include=set(Target.model_fields)),
            "cpu": cpu_name(),
            "cpu_flags": list(cpu_flags()),
            "onnxruntime": onnxruntime.__version__,
        }


def plugin_device(name: str, plugin: str) -> onnxruntime.OrtEpDevice | None:
    """A device of a provider that a wheel of its own adds, the processor if it is one; None where
    the wheel is not installed. Raises TargetError where it is, and cannot be used here."""
    if find_spec(plugin) is None:
        return None
    try:
        _register(name, plugin)
    except Exception as error:  # its module's and ONNX Runtime's errors have no common base
        reason = " ".join(str(error).split())
        raise TargetError(f"target.provider: the plugin {plugin} does not load: {reason}") from None
    found = [device for device in onnxruntime.get_ep_devices() if device.ep_name == name]
    if not found:
        raise TargetError(
            f"target.provider: the plugin {plugin} is installed and loads, but offers no device on "
            f"this machine ({cpu_name()})"
        )
    on_cpu = onnxruntime.OrtHardwareDeviceType.CPU
    return min(found, key=lambda device: device.device.type != on_cpu)


@cache
def _register(name: str, plugin: str) -> None:
    """Once in a process."""
    library = import_module(plugin).get_library_path()
    onnxruntime.register_execution_provider_library(name, library)


def parse_target(**values: object) -> Target:
    """A target from words and numbers of the command line. Raises TargetError."""
    try:
        return Target.model_validate(values)
    except ValidationError as error:
        detail = error.errors()[0]
        where, message = detail["loc"][0], detail["msg"].removeprefix("Value error, ")
        raise TargetError(f"target.{where}: {message} (given: {detail['input']!r})") from None


def cpu_flags(info: Path = Path("/proc/cpuinfo")) -> tuple[str, ...]:
    """Those of `CPU_FLAGS` that this processor has; empty where the system does not tell."""
    words = set(_cpu_field(("flags", "features"), info).split())
    return tuple(flag for flag in CPU_FLAGS if flag in words)


def int8_overflows(flags: Collection[str]) -> bool:
    """Whether a processor sums INT8 products in 16 bits, which weights of full range overflow.

    x86 without VNNI does (VPMADDUBSW); half the range, `QuantScheme.reduce_range`, never overflows.
    """
    return bool(OLD_X86_FLAGS & set(flags)) and not FAST_INT8_FLAGS & set(flags)


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
