"""The runtimes that `.ci/run` installs under .runtimes/; tests skip, visibly, those that lack."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from hardware.portability.runtimes import NODE_RUNTIMES, Runtime

PLACE = Path(__file__).parent.parent / ".runtimes"
OTHERS = (
    Runtime("onnxruntime", PLACE / "onnxruntime-1.16.3"),
    Runtime("onnxruntime", PLACE / "onnxruntime-1.20.1"),
    Runtime("openvino", PLACE / "openvino"),
    *(Runtime(name, PLACE / "node") for name in NODE_RUNTIMES),
)
NODE_MODULES = PLACE / "node" / "node_modules"


def is_there(runtime: Runtime) -> bool:
    """Whether a runtime was installed, and what runs it."""
    assert runtime.place is not None
    if runtime.name not in NODE_RUNTIMES:
        return runtime.place.is_dir()
    return shutil.which("node") is not None and (NODE_MODULES / runtime.name).is_dir()


EACH = [
    pytest.param(
        runtime,
        id=f"{runtime.name}-{runtime.place and runtime.place.name}",
        marks=pytest.mark.skipif(
            not is_there(runtime), reason=f"{runtime} is not installed; .ci/run does that"
        ),
    )
    for runtime in OTHERS
]
needs_browser_runtime = pytest.mark.skipif(
    not is_there(OTHERS[-1]), reason=f"{OTHERS[-1]} or node is not installed; .ci/run does that"
)
