"""Writing models: atomically, one tensor at a time, with the weights beside them beyond 2 GB."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import onnx

from hardware.files import replacing

PROTOBUF_LIMIT = 2**31 - 1
"""Bytes that one protobuf message may have."""
HEADROOM = 16 << 20
"""Room left for nodes and names when deciding by the weights' bytes."""
SMALL_BYTES = 1024
"""Tensors below this stay in the model: shape inference needs the values of some."""
MODEL_GRAPH_TAG = bytes([7 << 3 | 2])
GRAPH_INITIALIZER_TAG = bytes([5 << 3 | 2])


def save_model(
    model: onnx.ModelProto, path: str | Path, *, limit_bytes: int = PROTOBUF_LIMIT - HEADROOM
) -> None:
    """Write a model so that it appears complete or not at all.

    Weights of more than `limit_bytes` go to `<path>.data` beside it, which loads with it.
    """
    path = Path(path)
    if sum(tensor.ByteSize() for tensor in model.graph.initializer) <= limit_bytes:
        with replacing(path) as part, part.open("wb") as file:
            file.writelines(chunks(model))
        return
    data = path.with_name(path.name + ".data")
    headers = []
    with replacing(data) as part, part.open("wb") as file:
        for tensor in model.graph.initializer:
            if tensor.ByteSize() < SMALL_BYTES:
                headers.append(tensor)
                continue
            headers.append(_external(tensor, data.name, file.tell()))
            file.write(tensor.raw_data)
    outer = without_tensors(model)
    outer.graph.initializer.extend(headers)
    with replacing(path) as part, part.open("wb") as file:
        file.writelines(chunks(outer))


def chunks(model: onnx.ModelProto) -> Iterator[bytes]:
    """The model's bytes with one tensor serialised at a time, so that it is never held twice.

    Protobuf lets the fields of a message come in any order; the length is that of the whole.
    """
    shell, tensors = without_tensors(model), model.graph.initializer
    graph = shell.graph.SerializeToString()
    shell.ClearField("graph")
    yield shell.SerializeToString()
    sizes = [tensor.ByteSize() for tensor in tensors]
    framed = sum(len(GRAPH_INITIALIZER_TAG) + len(_varint(size)) + size for size in sizes)
    yield MODEL_GRAPH_TAG + _varint(len(graph) + framed) + graph
    for size, tensor in zip(sizes, tensors, strict=True):
        yield GRAPH_INITIALIZER_TAG + _varint(size)
        yield tensor.SerializeToString()


def without_tensors(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy without initializers, the weights not copied on the way."""
    shell = onnx.ModelProto()
    for descriptor, value in model.ListFields():
        if descriptor.name != "graph":
            _copy_field(shell, descriptor.name, value)
    for descriptor, value in model.graph.ListFields():
        if descriptor.name != "initializer":
            _copy_field(shell.graph, descriptor.name, value)
    return shell


def _copy_field(message: object, name: str, value: object) -> None:
    if isinstance(value, str | int):
        setattr(message, name, value)
    else:
        assert isinstance(value, Iterable), f"{name} is a single message; none is expected here"
        getattr(message, name).extend(value)


def _external(tensor: onnx.TensorProto, location: str, offset: int) -> onnx.TensorProto:
    header = onnx.TensorProto(
        name=tensor.name,
        data_type=tensor.data_type,
        dims=tensor.dims,
        data_location=onnx.TensorProto.EXTERNAL,
    )
    entries = {"location": location, "offset": offset, "length": len(tensor.raw_data)}
    for key, value in entries.items():
        header.external_data.add(key=key, value=str(value))
    return header


def _varint(number: int) -> bytes:
    parts = bytearray()
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*parts, number])
