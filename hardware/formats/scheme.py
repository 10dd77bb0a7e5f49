"""How low precision is realised; a policy says only which layer gets which format."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from hardware.settings import Settings

Linear = Literal["dynamic", "static", "qdq"]
Int4Kernel = Literal["w4a8", "matmulnbits"]
Rounding = Literal["feedback", "nearest"]
Arithmetic = Literal["fp32", "fp16", "int8", "int4", "codes"]
"""What products are taken in; `int4` has kernels of its own, `codes` are decoded to INT8 when a
session loads."""


class QuantScheme(Settings):
    """How integer layers are realised."""

    linear: Literal["auto"] | Linear = Field(
        "auto",
        description="Activation ranges of linear layers: at run time (`dynamic`), or calibrated, "
        "in ONNX Runtime's own kernel (`static`) or in the operators that TensorRT and OpenVINO "
        "fuse (`qdq`); `auto` takes the target's. Convolutions are always calibrated.",
    )
    group_size: Literal[16, 32, 64, 128] | None = Field(
        32,
        description="Weights of less than 8 bits that share a step; null for a channel.",
    )
    int4_kernel: Literal["auto"] | Int4Kernel = Field(
        "auto",
        description="INT4 storage with INT8 compute, or ONNX Runtime's MatMulNBits; `auto` "
        "measures both on the target and takes the faster.",
    )
    reduce_range: bool = Field(
        False,
        description="INT8 weights in half their range, for processors without VNNI, on which "
        "full ones can overflow; what runs take there unless it is stated.",
    )
    rounding: Rounding = Field(
        "feedback",
        description="How weights of less than 8 bits are rounded: each to its `nearest` level, or "
        "with `feedback`, so that an output's later weights make up for the errors of its earlier "
        "ones, by what layers read of training samples. A polish goes on from there.",
    )
    calibration: Literal["minmax", "percentile", "entropy"] = Field(
        "minmax", description="How a static range is taken from training activations."
    )

    @property
    def blocks(self) -> bool:
        """Whether INT4 linears run in MatMulNBits; not while the kernel is still to be chosen."""
        return self.int4_kernel == "matmulnbits"

    @property
    def static(self) -> bool:
        """Whether linears have calibrated ranges; not while the style is still to be chosen."""
        return self.linear in ("static", "qdq")

    def with_linear(self, linear: Linear) -> QuantScheme:
        """The same scheme with integer linears in another style."""
        return self.model_copy(update={"linear": linear})

    def with_int4_kernel(self, kernel: Int4Kernel) -> QuantScheme:
        """The same scheme with another kernel for INT4 linears."""
        return self.model_copy(update={"int4_kernel": kernel})
