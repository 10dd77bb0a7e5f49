"""Precisions and the per-layer precision policy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, Self

Int4Kernel = Literal["w4a8", "matmulnbits"]


class Precision(StrEnum):
    """How a layer's weights are stored and its product computed. Ordered by `bits`."""

    INT4 = "int4"
    INT8 = "int8"
    FP16 = "fp16"
    FP32 = "fp32"

    @property
    def bits(self) -> int:
        """Bits per stored weight, scales not counted."""
        return int(self.value.lstrip("fpint"))


@dataclass(frozen=True)
class QuantPolicy(Mapping[str, Precision]):
    """The precision of every quantizable layer, keyed by module path (`blocks.3.mlp.fc1`).

    Module paths are the same in the torch network and in the ONNX graph, so one policy serves both.
    """

    precisions: Mapping[str, Precision] = field(default_factory=dict)

    def __post_init__(self) -> None:
        ordered = {name: Precision(self.precisions[name]) for name in sorted(self.precisions)}
        object.__setattr__(self, "precisions", ordered)

    @classmethod
    def uniform(cls, layers: Iterable[str], precision: Precision) -> Self:
        """Give every layer the same precision."""
        return cls(dict.fromkeys(layers, precision))

    def __getitem__(self, layer: str) -> Precision:
        return self.precisions[layer]

    def __iter__(self) -> Iterator[str]:
        return iter(self.precisions)

    def __len__(self) -> int:
        return len(self.precisions)

    def __hash__(self) -> int:
        return hash(tuple(self.precisions.items()))


@dataclass(frozen=True)
class QuantScheme:
    """How `int8` and `int4` are realised; the policy says only which layer gets which.

    linear: activations of linear layers are quantized from their own range at run time
        (`dynamic`) or with ranges calibrated beforehand: `static` for processors, `qdq` in the
        symmetric form that TensorRT fuses. Convolutions are always calibrated.
    group_size: weights that share one INT4 multiplier along the input; None means the channel.
    int4_kernel: `w4a8` stores INT4 and computes INT8; `matmulnbits` is ONNX Runtime's weight-only
        INT4 kernel, the faster one for a handful of tokens and the INT4 of CUDA.
    reduce_range: INT8 weights use half their range, so that processors without VNNI, which sum
        pairs of products in 16 bits, cannot overflow.
    calibration: how a static range is taken from the observed activations.
    """

    linear: Literal["dynamic", "static", "qdq"] = "dynamic"
    group_size: int | None = 32
    int4_kernel: Int4Kernel = "w4a8"
    reduce_range: bool = False
    calibration: Literal["minmax", "percentile", "entropy"] = "minmax"
