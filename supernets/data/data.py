"""Batches, splits and tasks: what training and evaluation see of a data set."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from supernets.data.account import DataSource
from supernets.space.space import FULL, Architecture
from supernets.tasks.task import UNASKED, Targets, Task

CPU = torch.device("cpu")
SORTED_BATCHES = 16
"""Shuffled batches of texts that are sorted by length together, so that less of each is padding."""


@dataclass(frozen=True)
class Batch:
    """Inputs by name, each with the batch first; labels, of one class `(B,)`; rows of the split
    `(B,)`."""

    inputs: Mapping[str, Tensor]
    labels: Tensor
    rows: Tensor

    def to(self, device: torch.device) -> Batch:
        """Move to a device."""
        inputs = {name: tensor.to(device) for name, tensor in self.inputs.items()}
        return Batch(inputs, self.labels.to(device), self.rows.to(device))

    def parts(self, count: int) -> list[Batch]:
        """Split the samples into so many parts, equal but for one sample; some may be empty.

        No part is one sample alone, which some networks cannot be trained on, unless it is all.
        """
        filled = max(1, min(count, len(self.labels) // 2))

        def split(column: Tensor) -> list[Tensor]:
            return [*column.tensor_split(filled), *[column[:0]] * (count - filled)]

        columns = {name: split(tensor) for name, tensor in self.inputs.items()}
        both = zip(split(self.labels), split(self.rows), strict=True)
        return [
            Batch({name: column[i] for name, column in columns.items()}, labels, rows)
            for i, (labels, rows) in enumerate(both)
        ]


class Split(ABC):
    """One part of a data set. task: what is asked about its samples. labels: a target of each."""

    task: Task
    labels: Targets

    @property
    @abstractmethod
    def augmented(self) -> bool:
        """Whether samples are changed at random each time they are drawn."""

    @property
    def without_noise(self) -> Split:
        """What a teacher is asked about: texts whose tokens nothing replaces. Images stay changed,
        as all lies elsewhere in what they were."""
        return self

    @property
    def lengths(self) -> Tensor | None:
        """Tokens of each text `(n,)`; images alone have none."""
        return None

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.labels)

    @abstractmethod
    def part(self, rows: Tensor) -> Split:
        """These rows `(n,)` alone."""

    @abstractmethod
    def seen_by(self, architecture: Architecture) -> Split:
        """The split as a sub-network sees it: images in its size, texts in its pieces.

        Ids of pieces stay the full network's; the sub-network's `adapt_inputs` renumbers them.
        """

    @abstractmethod
    def rewritten(self, batch: Batch, architecture: Architecture) -> Batch:
        """A batch of this split with texts in a sub-network's pieces; images as they are."""

    @abstractmethod
    def inputs_of(
        self, rows: Tensor, generator: torch.Generator | None, device: torch.device
    ) -> dict[str, Tensor]:
        """Inputs of these samples `(B,)`, with a generator changed as training samples are.

        device: where images are changed; inputs need not lie there yet.
        """

    def batch(
        self, rows: Tensor, generator: torch.Generator | None = None, device: torch.device = CPU
    ) -> Batch:
        """These samples `(B,)` on a device, see `inputs_of`; targets are padded to the longest."""
        if isinstance(self.labels, Tensor):
            labels = self.labels[rows]
        else:
            given = [self.labels[row] for row in rows.tolist()]
            labels = pad_sequence(given, batch_first=True, padding_value=UNASKED)
        return Batch(self.inputs_of(rows, generator, device), labels, rows).to(device)

    def batches(
        self,
        batch_size: int,
        *,
        generator: torch.Generator | None = None,
        augment: bool = True,
        start: int = 0,
        device: torch.device = CPU,
    ) -> Iterator[Batch]:
        """Yield batches on a device from number `start` on, the last one possibly smaller.

        With a generator they are shuffled and, if `augment` and the split is for training, changed
        at random: the same way for the same generator state whatever `start` and `device` are.
        Without one they come in order and unchanged. Shuffled texts of like length come together.
        """
        for rows, own in batch_indices(len(self), batch_size, generator, start, self.lengths):
            yield self.batch(rows, own if augment else None, device)


class Preprocessor(Protocol):
    """What turns raw samples into network inputs; travels with every exported model."""

    def save(self, folder: Path, architecture: Architecture = FULL) -> None:
        """Write the files a Hugging Face client reads (preprocessor_config.json or a tokenizer).

        `architecture` is the sub-network's that they are for.
        """


@dataclass(frozen=True)
class TaskData:
    """The data of a task; the test split is for the final table only.

    `notes` tell the user what was decided in opening it, `source` knows every row that was found.
    kept_back: the part of validation that nothing is chosen by, None where there are too few rows.
    """

    train: Split
    validation: Split
    test: Split
    label_names: tuple[str, ...]
    preprocessor: Preprocessor
    notes: tuple[str, ...] = ()
    source: DataSource = field(default_factory=DataSource)
    kept_back: Split | None = None

    @property
    def task(self) -> Task:
        """What is asked about the samples."""
        return self.train.task


def calibration_batches(split: Split, samples: int = 512, batch_size: int = 64) -> list[Batch]:
    """About so many shuffled samples as they are, always the same, to take statistics from."""
    batches = split.batches(batch_size, generator=torch.Generator().manual_seed(0), augment=False)
    return list(islice(batches, -(-samples // batch_size)))


def batch_count(n: int, batch_size: int) -> int:
    """Number of batches when samples are shuffled.

    A sample that would be alone in the last batch joins the one before: BatchNorm cannot be trained
    on one sample where its maps are one pixel.
    """
    return n if batch_size == 1 else min(n, max(1, -(-(n - 1) // batch_size)))


def batch_indices(
    n: int,
    batch_size: int,
    generator: torch.Generator | None,
    start: int,
    lengths: Tensor | None = None,
) -> Iterator[tuple[Tensor, torch.Generator | None]]:
    """Indices of each batch, and a generator of its own for augmentation.

    With `lengths` `(n,)` samples of like length share a batch where they are shuffled. All
    randomness is drawn at the beginning, so that starting in the middle gives the same batches.
    """
    n_batches = -(-n // batch_size) if generator is None else batch_count(n, batch_size)
    order = torch.arange(n) if generator is None else torch.randperm(n, generator=generator)
    if generator is not None and lengths is not None:
        order = _alike(order, lengths, batch_size, generator)
    seeds = None if generator is None else torch.randint(2**62, (n_batches,), generator=generator)
    for number in range(start, n_batches):
        own = None if seeds is None else torch.Generator().manual_seed(int(seeds[number]))
        end = n if number == n_batches - 1 else (number + 1) * batch_size
        yield order[number * batch_size : end], own


def _alike(order: Tensor, lengths: Tensor, batch_size: int, generator: torch.Generator) -> Tensor:
    """Sort every `SORTED_BATCHES` batches of a shuffled order by length, and shuffle the batches.

    A smaller last batch stays the last.
    """
    chunks = order.split(SORTED_BATCHES * batch_size)
    batches = [
        batch
        for chunk in chunks
        for batch in chunk[lengths[chunk].argsort(stable=True)].split(batch_size)
    ]
    whole = len(order) // batch_size
    shuffled = [batches[number] for number in torch.randperm(whole, generator=generator).tolist()]
    return torch.cat([*shuffled, *batches[whole:]])
