"""What the rows of a data set hold, told by hashes, whatever their order."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]
Rows = NDArray[np.int64]


def hash_texts(columns: Iterable[Iterable[str]]) -> Hashes:
    """A hash of each row's texts, `(n,)`."""
    rows = zip(*columns, strict=True)
    return _array(_hash(repr(texts).encode("utf-8", "surrogatepass")) for texts in rows)


def hash_contents(contents: Iterable[bytes]) -> Hashes:
    """A hash of each file's or array's bytes, `(n,)`."""
    return _array(_hash(content) for content in contents)


def _hash(content: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")


def _array(hashes: Iterable[int]) -> Hashes:
    return np.fromiter(hashes, dtype=np.uint64)


@dataclass(frozen=True)
class Contents:
    """Every row of every split as two hashes `(n,)`: of its input, and of input and label's name.

    Equal for equal rows in any order, on any machine.
    """

    inputs: Mapping[str, Hashes]
    labelled: Mapping[str, Hashes]

    @classmethod
    def of(cls, inputs: Mapping[str, Hashes], targets: Mapping[str, Hashes]) -> Contents:
        """The contents of rows given by hashes of inputs and targets `(n,)`."""
        return cls(dict(inputs), {split: inputs[split] ^ targets[split] for split in inputs})

    def digest(self, split: str) -> str:
        """One short text for all rows of a split."""
        rows = np.sort(self.labelled[split]).astype("<u8").tobytes()
        return hashlib.blake2b(rows, digest_size=16).hexdigest()

    def shared(self) -> dict[str, int]:
        """Rows of split b whose input split a holds too, by "a and b", where there are any."""
        counts = {
            f"{a} and {b}": int(np.isin(self.inputs[b], self.inputs[a]).sum())
            for a, b in combinations(self.inputs, 2)
        }
        return {pair: count for pair, count in counts.items() if count}

    def contradictions(self, split: str) -> int:
        """Inputs of a split that have several labels."""
        both = np.unique(np.stack([self.inputs[split], self.labelled[split]], axis=1), axis=0)
        return int((np.unique(both[:, 0], return_counts=True)[1] > 1).sum())

    def changes(self, now: Contents) -> list[str]:
        """How the rows of another time differ, a text per split that does."""
        told = [
            f"{split}: {', '.join(changes)}"
            for split in self.inputs
            if (changes := self._changes(now, split))
        ]
        if told and np.array_equal(self._whole(), now._whole()):
            return ["the same rows in other splits: their order decides what is set aside"]
        return told

    def _whole(self) -> Hashes:
        return np.sort(np.concatenate(list(self.labelled.values())))

    def _changes(self, now: Contents, split: str) -> list[str]:
        gone = _surplus(self.inputs[split], now.inputs[split])
        new = _surplus(now.inputs[split], self.inputs[split])
        relabelled = _surplus(self.labelled[split], now.labelled[split]) - gone
        counts = {"rows more": new, "rows fewer": gone, "labels changed": relabelled}
        return [f"{count:,} {what}" for what, count in counts.items() if count]

    def to_bytes(self) -> bytes:
        """A NumPy archive."""
        arrays = {f"{split}.inputs": np.sort(rows) for split, rows in self.inputs.items()}
        arrays |= {f"{split}.labelled": np.sort(rows) for split, rows in self.labelled.items()}
        file = io.BytesIO()
        np.savez(file, allow_pickle=False, **arrays)
        return file.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> Contents:
        """Inverse of `to_bytes`, but for the order of rows. Raises ValueError for anything else."""
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as file:
                arrays = dict(file)
        except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
            raise ValueError(f"no archive of row hashes ({error})") from error
        found: dict[str, dict[str, Hashes]] = {"inputs": {}, "labelled": {}}
        for name, array in arrays.items():
            split, _, kind = name.partition(".")
            found.setdefault(kind, {})[split] = array
        return cls(found["inputs"], found["labelled"])


def _surplus(these: Hashes, those: Hashes) -> int:
    """How many of these there are beyond as many of those."""
    values, numbers = np.unique(np.concatenate([these, those]), return_inverse=True)
    parts = numbers[: len(these)], numbers[len(these) :]
    counts, others = (np.bincount(part, minlength=len(values)) for part in parts)
    return int((counts - others).clip(min=0).sum())
