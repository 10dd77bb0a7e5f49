"""ONNX Runtime's execution providers: what each can run, and how it is asked.

A new one is an entry of `PROVIDERS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from hardware.formats.format import Format
from hardware.formats.fp16 import FP16
from hardware.formats.int8 import INT8
from hardware.formats.registry import FORMATS, ordered
from hardware.formats.scheme import Arithmetic, Int4Kernel, Linear


@dataclass(frozen=True)
class Provider:
    """One execution provider.

    execution_provider: ONNX Runtime's name of it; `wheel` is what to install for it.
    arithmetic: what it can take products in, FP32 and what is faster.
    low_reference: the format that its users would take without a search.
    linears: how integer linears can be realised so that it has kernels for them, the best first.
    int4_kernels: kernels of INT4 linears; where there are several, the faster is found out.
    options: provider options of every session; `asked_by` those that an arithmetic in the graph
        needs; `cache_option` the one that takes a folder for compiled graphs,
        `threads_option` the one that takes the target's threads.
    plugin: module of the wheel that ONNX Runtime's own wheel is to be extended with.
    tried: whether its sessions were run and audited on such hardware; where not, its logic
        alone is tested, with a provider that compiles.
    names_kernels: whether a profile names kernels and the optimized graph can be saved; not where
        sub-graphs are compiled.
    """

    execution_provider: str
    wheel: str
    arithmetic: frozenset[Arithmetic]
    low_reference: Format
    linears: tuple[Linear, ...] = ()
    int4_kernels: tuple[Int4Kernel, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)
    asked_by: Mapping[Arithmetic, Mapping[str, str]] = field(default_factory=dict)
    cache_option: str | None = None
    threads_option: str | None = None
    plugin: str | None = None
    tried: bool = True
    names_kernels: bool = True

    @property
    def linear(self) -> Linear:
        """The style that `quantization.linear: auto` stands for."""
        return next(iter(self.linears), "dynamic")

    @property
    def formats(self) -> tuple[Format, ...]:
        """Every format that it can run, from small to large."""
        return ordered(entry for entry in FORMATS.values() if entry.arithmetic in self.arithmetic)


PROVIDERS: dict[str, Provider] = {
    "cpu": Provider(
        "CPUExecutionProvider",
        wheel="onnxruntime",
        arithmetic=frozenset({"fp32", "int8", "int4", "codes"}),
        low_reference=INT8,
        linears=("dynamic", "static", "qdq"),
        int4_kernels=("w4a8", "matmulnbits"),
    ),
    "cuda": Provider(
        "CUDAExecutionProvider",
        wheel="onnxruntime-gpu (after `pip uninstall onnxruntime`: the two overwrite each other)",
        arithmetic=frozenset({"fp32", "fp16", "int4"}),
        low_reference=FP16,
        int4_kernels=("matmulnbits",),
    ),
    "tensorrt": Provider(
        "TensorrtExecutionProvider",
        wheel="onnxruntime-gpu and tensorrt (after `pip uninstall onnxruntime`)",
        arithmetic=frozenset({"fp32", "fp16", "int8"}),
        low_reference=INT8,
        linears=("qdq",),
        options={"trt_engine_cache_enable": "1"},
        asked_by={"int8": {"trt_int8_enable": "1"}, "fp16": {"trt_fp16_enable": "1"}},
        cache_option="trt_engine_cache_path",
        tried=False,
        names_kernels=False,
    ),
    "openvino": Provider(
        "OpenVINOExecutionProvider",
        wheel="onnxruntime-ep-openvino",
        arithmetic=frozenset({"fp32", "int8", "int4", "codes"}),
        low_reference=INT8,
        linears=("qdq", "dynamic"),
        int4_kernels=("w4a8",),
        options={"load_config": '{"CPU": {"INFERENCE_PRECISION_HINT": "f32"}}'},
        threads_option="num_of_threads",
        plugin="onnxruntime_ep_openvino",
        names_kernels=False,
    ),
}


UNTRIED = "not tried on hardware"


def names_with_marks() -> str:
    """All names, those that no model was measured with marked."""
    return ", ".join(n if entry.tried else f"{n} ({UNTRIED})" for n, entry in PROVIDERS.items())


def find_provider(name: object) -> Provider:
    """The provider of a name. Raises ValueError with those that there are."""
    if not isinstance(name, str) or name not in PROVIDERS:
        raise ValueError(f"provider {name!r} is unknown; allowed are {', '.join(PROVIDERS)}")
    return PROVIDERS[name]
