"""Runs a model on stored inputs in whatever runtime this interpreter has; starts as a script.

    python run_in_python.py RUNTIME MODEL.onnx INPUTS.npz OUTPUTS.npz

It imports NumPy and the runtime alone, so that versions of years ago can run it. Results are the
logits, the runtime's version and the milliseconds of each timed run.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

TIMED_RUNS = 20

Run = Callable[[Mapping[str, Any]], Any]


def onnxruntime_session(model: str) -> tuple[str, Run]:
    """Version, and a function from inputs to logits, on one thread of the processor."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return onnxruntime.__version__, lambda inputs: session.run(None, dict(inputs))[0]


def openvino_session(model: str) -> tuple[str, Run]:
    """The same for OpenVINO, in the precision that the graph asks for."""
    import openvino

    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    compiled = openvino.Core().compile_model(model, "CPU", settings)
    return openvino.__version__.split("-")[0], lambda inputs: compiled(dict(inputs))[0]


SESSIONS = {"onnxruntime": onnxruntime_session, "openvino": openvino_session}


def main(runtime: str, model: str, inputs: str, outputs: str) -> None:
    """Run all samples together, then the first alone, for its latency, too."""
    version, run = SESSIONS[runtime](model)
    feeds = dict(np.load(inputs, allow_pickle=False))
    logits = np.asarray(run(feeds))
    first, milliseconds = {name: array[:1] for name, array in feeds.items()}, []
    alone = np.asarray(run(first))
    for _ in range(TIMED_RUNS):
        started = time.perf_counter()
        run(first)
        milliseconds.append((time.perf_counter() - started) * 1e3)
    stamp = np.array(version)
    np.savez(outputs, logits=logits, alone=alone, version=stamp, milliseconds=milliseconds)


if __name__ == "__main__":
    main(*sys.argv[1:])
