"""A candidate as an ONNX model, with what its measurement needs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from hardware.session import open_session
from hardware.target import Target
from nas.evaluation.candidate import Candidate


@dataclass(frozen=True)
class BuiltCandidate:
    """One built candidate; nothing of it changes when others are built.

    model, content: byte for byte what is measured and exported.
    coverage: which layers are really quantized, in words.
    graph_digest: see the function of this name.
    example: inputs at the target's batch size and sequence length, to measure latency with.
    """

    candidate: Candidate
    model: onnx.ModelProto
    content: bytes
    coverage: str
    graph_digest: str
    example: Mapping[str, NDArray[np.generic]]
    target: Target

    @property
    def key(self) -> str:
        """The candidate's."""
        return self.candidate.key

    @cached_property
    def session(self) -> onnxruntime.InferenceSession:
        """The model on the target, opened when it is first asked for."""
        return open_session(self.content, self.target)


def graph_digest(model: onnx.ModelProto) -> str:
    """Hash of what a model computes, its weights aside: nodes, functions, shapes and formats."""
    graph, digest = model.graph, hashlib.sha256()
    for part in (*graph.input, *graph.node, *model.functions):
        digest.update(part.SerializeToString(deterministic=True))
    for tensor in graph.initializer:
        digest.update(json.dumps([tensor.name, tensor.data_type, *tensor.dims]).encode())
        if tensor.data_type == onnx.TensorProto.INT64:  # shapes and places, never weights
            digest.update(tensor.raw_data)
    return digest.hexdigest()
