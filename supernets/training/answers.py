"""What networks answer about samples, and what is kept of a teacher's answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from hardware.processors import memory
from supernets.data.data import Batch
from supernets.families.super_network import Output


@dataclass(frozen=True)
class Answers:
    """Logits `(B, classes)` of a batch, the features `(B, width)` they are computed from.

    outputs: of the blocks that are compared, if any.
    """

    logits: Tensor
    features: Tensor
    outputs: Sequence[Output] = ()


@dataclass(frozen=True)
class KnownAnswers:
    """Logits `(n, classes)` and features `(n, width)` of a split.

    outputs: of a text what each of the compared blocks puts out for its tokens `(T, blocks, D)`.
    """

    logits: Tensor
    features: Tensor
    outputs: Mapping[int, Tensor] = field(default_factory=dict)

    def outputs_of(self, rows: Tensor) -> list[Tensor]:
        """Of every block, for these texts `(B, T, D)`; zero in place of padding."""
        if not self.outputs:
            return []
        padded = pad_sequence([self.outputs[row] for row in rows.tolist()], batch_first=True)
        return list(padded.unbind(2))


def without_padding(outputs: Sequence[Output], batch: Batch) -> dict[int, Tensor]:
    """Row of a text -> its tokens in the outputs of all blocks `(T, blocks, D)`."""
    together = torch.stack([output for output in outputs if isinstance(output, Tensor)], dim=2)
    lengths = batch.inputs["attention_mask"].sum(dim=1).tolist()
    both = zip(batch.rows.tolist(), together, lengths, strict=True)
    return {row: tokens[:length].clone() for row, tokens, length in both}


def memory_of(device: torch.device) -> int:
    """Bytes of memory where a network is trained."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return memory()
