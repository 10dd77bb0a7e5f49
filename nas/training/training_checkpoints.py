"""Training checkpoints: written now and then, atomically, the last two kept."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from hardware.files import replacing
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
        with replacing(self.folder / f"step-{trainer.step_number:08d}.safetensors") as part:
            save_file(trainer.state(), part)
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
        if self.folder.exists():
            shutil.rmtree(self.folder)

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("step-*.safetensors"))
