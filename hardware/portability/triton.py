"""A model as NVIDIA's Triton Inference Server takes it: `config.pbtxt` and `1/model.onnx`."""

from __future__ import annotations

from collections.abc import Iterable

import onnx
from onnx import TensorProto

from hardware.target import Target

CONFIG_FILE = "config.pbtxt"
VERSION = "1"
TYPES: dict[int, str] = {
    TensorProto.FLOAT: "TYPE_FP32",
    TensorProto.FLOAT16: "TYPE_FP16",
    TensorProto.INT64: "TYPE_INT64",
}


def triton_config(model: onnx.ModelProto, target: Target) -> str:
    """Triton's description of a model, named after its folder, served as it was measured.

    Where the first axis of all inputs and outputs is open it is the batch, which Triton leaves out
    of `dims`; it gathers no more requests than the batch that accuracy was measured with, since an
    activation's dynamic range is that of the whole batch.
    """
    graph = model.graph
    batched = all(_shape(value)[0] == -1 for value in (*graph.input, *graph.output))
    lines = ['backend: "onnxruntime"', f"max_batch_size: {target.batch_size if batched else 0}"]
    lines += _tensors("input", graph.input, batched) + _tensors("output", graph.output, batched)
    if batched and target.batch_size > 1:
        lines.append("dynamic_batching { }")
    if target.provider == "cpu":
        lines.append("instance_group [ { kind: KIND_CPU } ]")
    threads = f'value: {{ string_value: "{target.threads}" }}'
    lines.append(f'parameters {{ key: "intra_op_thread_count" {threads} }}')
    return "\n".join(lines) + "\n"


def _tensors(field: str, values: Iterable[onnx.ValueInfoProto], batched: bool) -> list[str]:
    lines = []
    for value in values:
        dims = ", ".join(map(str, _shape(value)[int(batched) :]))
        kind = TYPES[value.type.tensor_type.elem_type]
        told = f'name: "{value.name}" data_type: {kind} dims: [ {dims} ]'
        lines.append(f"{field} [ {{ {told} }} ]")
    return lines


def _shape(value: onnx.ValueInfoProto) -> list[int]:
    """Sizes of the axes, -1 for those that are open."""
    dims = value.type.tensor_type.shape.dim
    return [dim.dim_value if dim.HasField("dim_value") else -1 for dim in dims]
