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
    linears: how integer linears are realised so that it has kernels for them.
    int4_kernels: kernels of INT4 linears; where there are several, the faster is found out.
    options: provider options of every session.
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
    names_kernels: bool = True

    @property
    def formats(self) -> tuple[Format, ...]:
        """Every format that it can run, from small to large."""
        return ordered(entry for entry in FORMATS.values() if entry.arithmetic in self.arithmetic)


PROVIDERS: dict[str, Provider] = {
    "cpu": Provider(
        "CPUExecutionProvider",
        wheel="onnxruntime",
        arithmetic=frozenset({"fp32", "int8", "int4"}),
        low_reference=INT8,
        linears=("dynamic", "static"),
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
        names_kernels=False,
    ),
}


def find_provider(name: object) -> Provider:
    """The provider of a name. Raises ValueError with those that there are."""
    if not isinstance(name, str) or name not in PROVIDERS:
        raise ValueError(f"provider {name!r} is unknown; allowed are {', '.join(PROVIDERS)}")
    return PROVIDERS[name]
