"""Nothing of a run is told to anybody."""

from __future__ import annotations

import os

SWITCHES = ("HF_HUB_DISABLE_TELEMETRY", "ORT_DISABLE_TELEMETRY")
"""What Hugging Face's libraries and ONNX Runtime (from 1.29, on Linux) ask as they are imported."""


def switch_off() -> None:
    """Keep libraries that are imported from now on, here and in child processes, from telling."""
    os.environ.update(dict.fromkeys(SWITCHES, "1"))
