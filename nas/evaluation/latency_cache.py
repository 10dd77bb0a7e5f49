"""Latencies this machine has measured before, so that equal runs see equal numbers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from hardware.files import write_atomically
from hardware.latency import Latency


@dataclass(frozen=True)
class LatencyCache:
    """Remembers latencies by what they depend on: the graph's shapes and formats, and the target.

    Weights do not change latency, noise does. A search that continues, or is repeated with the
    same seed, reads the number it measured first and so proposes the same candidates. Exported
    models are always measured afresh, and a disturbed latency is not remembered.
    """

    folder: Path

    def get(self, conditions: Mapping[str, Any], measure: Callable[[], Latency]) -> Latency:
        """The recorded latency under these conditions, measured if there is none, and recorded."""
        canonical = json.dumps(conditions, sort_keys=True)
        entry = self.folder / f"{hashlib.sha256(canonical.encode()).hexdigest()[:32]}.json"
        if (kept := _read(entry)) is not None:
            return kept
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / "measuring.lock"):  # processes of one machine take turns
            return _read(entry) or self._record(entry, conditions, measure())

    @staticmethod
    def _record(entry: Path, conditions: Mapping[str, Any], latency: Latency) -> Latency:
        if not latency.disturbed:
            content = {"conditions": conditions, "latency": asdict(latency)}
            write_atomically(entry, json.dumps(content))
        return latency


def _read(entry: Path) -> Latency | None:
    """A recorded latency, None where there is none or a crash has torn it."""
    try:
        return Latency(**json.loads(entry.read_text(encoding="utf-8"))["latency"])
    except (FileNotFoundError, json.JSONDecodeError, UnicodeDecodeError):
        return None
