"""Training checkpoints: written now and then, atomically, the last two kept."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from nas.run.run_folder import make_durable
from supernets.training.train import Trainer

INTERVAL_S = 60.0
KEPT = 2


@dataclass
class Checkpoints:
    """Checkpoints of one training stage in a folder."""

    folder: Path
    clock: Callable[[], float] = time.monotonic
    _last: float = field(init=False)

    def __post_init__(self) -> None:
        self._last = self.clock()

    def __call__(self, trainer: Trainer) -> None:
        """Write a checkpoint if the last one is `INTERVAL_S` ago."""
        if self.clock() - self._last >= INTERVAL_S:
            self.write(trainer)

    def write(self, trainer: Trainer) -> None:
        """Write a checkpoint now; it appears whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"step-{trainer.step_number:08d}.safetensors"
        part = path.with_suffix(".part")
        save_file(trainer.state(), part)
        make_durable(part)
        part.replace(path)
        for old in self._files()[:-KEPT]:
            old.unlink()
        self._last = self.clock()

    def restore(self, trainer: Trainer) -> list[Path]:
        """Continue from the newest readable checkpoint, if any; returns the damaged ones."""
        damaged = []
        for path in reversed(self._files()):
            try:
                state = load_file(path)
            except SafetensorError:
                damaged.append(path)
            else:
                trainer.restore(state)
                break
        return damaged

    def clear(self) -> None:
        """Remove all of them: the stage is done."""
        for path in self._files():
            path.unlink()
        if self.folder.exists():
            self.folder.rmdir()

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("step-*.safetensors"))
