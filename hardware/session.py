"""ONNX Runtime sessions that run where they were asked to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from hardware.files import cache_folder
from hardware.formats.scheme import Arithmetic
from hardware.target import Target, TargetError, plugin_device

Arrays = Mapping[str, NDArray[np.generic]]

RUNTIME_ERRORS: tuple[type[Exception], ...] = (
    RuntimeError,
    *(
        kind
        for kind in vars(onnxruntime.capi.onnxruntime_pybind11_state).values()
        if isinstance(kind, type) and issubclass(kind, Exception)
    ),
)
"""All that ONNX Runtime raises; its own kinds have no common base."""


CANNOT_RUN = "ONNX Runtime cannot run the model"


class SessionError(ValueError):
    """ONNX Runtime could not load or run a model, with its reason."""


@contextmanager
def one_line_errors(where: str) -> Iterator[None]:
    """Turn what ONNX Runtime raises into a SessionError of one line that begins with `where`."""
    try:
        yield
    except RUNTIME_ERRORS as error:
        reason = " ".join(str(error).split()).removeprefix("[ONNXRuntimeError] : ")
        raise SessionError(f"{where}: {reason}") from error


def open_session(
    model: str | Path | bytes,
    target: Target,
    options: onnxruntime.SessionOptions | None = None,
) -> onnxruntime.InferenceSession:
    """Load a model for `target`, with threads that sleep while idle.

    Raises TargetError when the target's provider is missing or did not load, SessionError when it
    refuses the model.
    """
    provider = target.execution_provider
    options = options or onnxruntime.SessionOptions()
    options.intra_op_num_threads = target.threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4  # errors are raised, not printed too
    source = model if isinstance(model, bytes) else str(model)
    name = "model" if isinstance(source, bytes) else source
    given = provider_options(source, target)
    plugin = target.runs_on.plugin
    device = plugin_device(provider, plugin) if plugin else None
    with one_line_errors(f"{name}: ONNX Runtime cannot load it for {target.provider}"):
        if device is not None:
            options.add_provider_for_devices([device], given)
            session = onnxruntime.InferenceSession(source, options)
        else:
            session = onnxruntime.InferenceSession(source, options, [provider], [given])
    if session.get_providers()[0] != provider:
        raise TargetError(
            f"target.provider: {provider} is installed but did not start (driver or libraries?); "
            f"the session fell back to {session.get_providers()}. Run `simqnas doctor`"
        )
    return session


def provider_options(source: bytes | str, target: Target) -> dict[str, str]:
    """What a session for this model asks of the target's provider."""
    provider = target.runs_on
    options = dict(provider.options)
    if provider.threads_option:
        options[provider.threads_option] = str(target.threads)
    if provider.cache_option:
        options[provider.cache_option] = str(cache_folder() / "engines")
    for arithmetic in sorted(_arithmetic(source)) if provider.asked_by else ():
        options |= provider.asked_by.get(arithmetic, {})
    return options


def _arithmetic(source: bytes | str) -> set[Arithmetic]:
    """What is faster than FP32 in a graph: of rounded values, of halves."""
    if isinstance(source, bytes):
        graph = onnx.load_from_string(source).graph
    else:
        graph = onnx.load(source, load_external_data=False).graph
    found: set[Arithmetic] = set()
    if any(node.op_type == "DequantizeLinear" for node in graph.node):
        found.add("int8")
    if any(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in graph.initializer):
        found.add("fp16")
    return found


def run(
    session: onnxruntime.InferenceSession, inputs: Arrays, outputs: Sequence[str] | None = None
) -> list[NDArray[np.float32]]:
    """All outputs of one inference, or those named. Raises SessionError where a kernel fails."""
    with one_line_errors(CANNOT_RUN):
        return list(session.run(outputs, dict(inputs)))


def predict(
    session: onnxruntime.InferenceSession, batches: Iterable[Arrays]
) -> NDArray[np.float32]:
    """Logits of all batches, `(n_samples, n_classes)`."""
    return np.concatenate([run(session, batch)[0] for batch in batches])
