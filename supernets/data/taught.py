"""Targets that a network gives, when they are first asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import overload

import torch
from torch import Tensor

from supernets.data.data import Split

Ask = Callable[[Split], Tensor]
"""What a network puts out for every sample of a split `(n, D)`."""


@dataclass(frozen=True)
class Taught(Sequence[Tensor]):
    """A network's vectors `(D,)` for the samples of a split, computed once."""

    split: Split
    ask: Ask

    @cached_property
    def _vectors(self) -> Tensor:
        return self.ask(self.split)

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.split)

    @overload
    def __getitem__(self, row: int) -> Tensor: ...
    @overload
    def __getitem__(self, row: slice) -> Sequence[Tensor]: ...
    def __getitem__(self, row: int | slice) -> Tensor | Sequence[Tensor]:
        """The vector of one sample."""
        return self._vectors[row] if isinstance(row, int) else list(self._vectors[row])

    def part(self, rows: Tensor) -> Taught:
        """Of these samples alone."""
        return Taught(self.split.part(rows), lambda _: self._vectors[rows])


@torch.inference_mode()
def ask_all(network: torch.nn.Module, split: Split, batch_size: int = 128) -> Tensor:
    """What a network puts out for every sample, in order."""
    batches = split.batches(batch_size)
    return torch.cat([network(**batch.inputs).float() for batch in batches])
