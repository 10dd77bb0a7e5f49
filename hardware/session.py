"""ONNX Runtime sessions that run where they were asked to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from hardware.target import Target, TargetError

onnxruntime.disable_telemetry_events()

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


@contextmanager
def one_line_errors(where: str) -> Iterator[None]:
    """Turn what ONNX Runtime raises into a ValueError of one line that begins with `where`."""
    try:
        yield
    except RUNTIME_ERRORS as error:
        reason = " ".join(str(error).split()).removeprefix("[ONNXRuntimeError] : ")
        raise ValueError(f"{where}: {reason}") from error


def open_session(
    model: str | Path | bytes,
    target: Target,
    options: onnxruntime.SessionOptions | None = None,
) -> onnxruntime.InferenceSession:
    """Load a model for `target`, with threads that sleep while idle.

    Raises TargetError when the target's provider is missing or did not load.
    """
    provider = target.execution_provider
    options = options or onnxruntime.SessionOptions()
    options.intra_op_num_threads = target.threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4  # errors are raised, not printed too
    source = model if isinstance(model, bytes) else str(model)
    provider_options = [dict(target.runs_on.options)]
    session = onnxruntime.InferenceSession(source, options, [provider], provider_options)
    if session.get_providers()[0] != provider:
        raise TargetError(
            f"target.provider: {provider} is installed but did not start (driver or libraries?); "
            f"the session fell back to {session.get_providers()}. Run `simqnas doctor`"
        )
    return session


def predict(
    session: onnxruntime.InferenceSession, batches: Iterable[Arrays]
) -> NDArray[np.float32]:
    """Logits of all batches, `(n_samples, n_classes)`."""
    return np.concatenate([session.run(None, dict(batch))[0] for batch in batches])
