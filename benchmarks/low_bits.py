"""How well two and three bits hold real weights, over group sizes and codebooks, beside INT4.

    python benchmarks/low_bits.py CHECKPOINT

CHECKPOINT is a folder with model.safetensors. Errors are shares of a layer's energy, each layer
weighing as many as its weights are; bytes are those of codes, steps and scales. INT4 gets down to
the bytes of fewer bits by holding less: the strongest inputs of a layer, or its best product of low
rank (Eckart and Young 1936).
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hardware.formats.codebook.weights import STEPS, Codebook, CodebookQuantizer, step_sizes
from hardware.formats.int2 import INT2
from hardware.formats.int3 import INT3
from hardware.formats.int4_weights import Int4Quantizer
from hardware.formats.int8 import Int8Quantizer
from hardware.formats.weight_memo import Floats

GROUPS = (16, 32, 64, 128, None)
FEW_BITS = {"int2": INT2.book, "int3": INT3.book}
ROWS = 128
"""Rows of a layer whose errors are taken, evenly spaced; each is quantized on its own."""
ROUNDS = 3
"""Of Lloyd's algorithm, which fits a codebook."""

GroupQuantizer = CodebookQuantizer | Int4Quantizer
AnyQuantizer = GroupQuantizer | Int8Quantizer
Cost = tuple[int, float]
"""Bytes, and the share of the energy that is missed."""


def decoded(quantizer: GroupQuantizer, matrix: Floats) -> Floats:
    """What a layer computes with, (out, in)."""
    if isinstance(quantizer, Int4Quantizer):
        four = quantizer.quantize(matrix)
        return four.integers[:, : matrix.shape[1]] * four.scale[:, None]
    few = quantizer.quantize(matrix)
    return quantizer.integers(few, matrix.shape[1]) * few.scale[:, None]


def bytes_of(quantizer: AnyQuantizer, rows: int, columns: int) -> int:
    """Of everything that is stored of a matrix."""
    shape_only = np.broadcast_to(np.float32(0), (rows, columns))
    return sum(part.nbytes for part in quantizer.like(shape_only))


def missed(matrix: Floats, other: Floats) -> float:
    """Share of a matrix's energy that another one misses."""
    return float(np.square(matrix - other).sum() / np.square(matrix).sum())


@dataclass(frozen=True)
class Layer:
    """A weight (out, everything that one output sums over)."""

    kind: str
    matrix: Floats

    @cached_property
    def sampled(self) -> slice:
        """The rows whose errors are taken."""
        return slice(None, None, -(-len(self.matrix) // ROWS))

    @cached_property
    def rows(self) -> Floats:
        """Those rows."""
        return self.matrix[self.sampled]

    @cached_property
    def strongest(self) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
        """Inputs by the energy of their weights, the most first."""
        order: np.ndarray[tuple[int, ...], np.dtype[np.int64]]
        order = np.argsort(-np.square(self.matrix).sum(0))
        return order

    @cached_property
    def factors(self) -> tuple[Floats, Floats]:
        """(out, rank) and (rank, in), whose first columns and rows are the best product."""
        left, values, right = torch.linalg.svd(torch.from_numpy(self.matrix), full_matrices=False)
        return (left * values).numpy(), right.numpy()

    def whole(self, quantizer: GroupQuantizer) -> Cost:
        """All of it in one format."""
        stored = bytes_of(quantizer, *self.matrix.shape)
        return stored, missed(self.rows, decoded(quantizer, self.rows))

    def fewer_inputs(self, quantizer: GroupQuantizer, limit: int) -> Cost:
        """As many of its inputs as fit into so many bytes."""
        out, columns = self.matrix.shape
        sizes = {n: bytes_of(quantizer, out, n) for n in range(1, columns + 1)}
        count = max((n for n, size in sizes.items() if size <= limit), default=0)
        found, kept = np.zeros_like(self.rows), self.strongest[:count]
        if count:
            found[:, kept] = decoded(quantizer, self.rows[:, kept])
        return sizes.get(count, 0), missed(self.rows, found)

    def low_rank(self, quantizer: GroupQuantizer, limit: int) -> Cost:
        """A product of the highest rank that fits into so many bytes."""
        (out, columns), (left, right) = self.matrix.shape, self.factors
        sizes = {
            n: bytes_of(quantizer, out, n) + bytes_of(quantizer, n, columns)
            for n in range(1, len(right) + 1)
        }
        rank = max((n for n, size in sizes.items() if size <= limit), default=0)
        found = np.zeros_like(self.rows)
        if rank:
            wide = decoded(quantizer, np.ascontiguousarray(left[self.sampled, :rank]))
            found = wide @ decoded(quantizer, right[:rank])
        return sizes.get(rank, 0), missed(self.rows, found)


def layers_of(checkpoint: Path) -> Iterator[Layer]:
    """Every weight of a checkpoint that a layer's format applies to."""
    for name, tensor in load_file(checkpoint / "model.safetensors").items():
        if tensor.ndim in (2, 4) and tensor.is_floating_point():
            kind = "embeddings" if "embeddings" in name else "linears"
            kind = "convolutions" if tensor.ndim == 4 else kind
            yield Layer(kind, tensor.float().flatten(1).contiguous().numpy())


def even(book: Codebook) -> Codebook:
    """As many levels at equal distances: what plain integers of so many bits are."""
    levels = np.linspace(-1, 1, len(book.levels), endpoint=False)
    return replace(book, levels=tuple(map(float, levels)))


def fitted(book: Codebook, rows: Floats, group: int | None, zero: bool) -> Codebook:
    """The book of k-means for these rows; -1 stays, and 0 where that is asked for."""
    fixed = [i for i, level in enumerate(book.levels) if level == -1 or (zero and level == 0)]
    books = [book]
    for _ in range(ROUNDS):
        sums, weights = _clusters(books[-1], rows, group)
        old = np.array(books[-1].levels, np.float32)
        levels = np.divide(sums, weights, out=old.copy(), where=weights > 0)
        levels[fixed] = old[fixed]
        books.append(replace(book, levels=tuple(map(float, levels))))
    return min(books, key=lambda x: missed(rows, decoded(CodebookQuantizer(x, group), rows)))


def _clusters(book: Codebook, rows: Floats, group: int | None) -> tuple[Floats, Floats]:
    """Sums and weights of what lies nearest to each level, as its group's step stretches it."""
    quantizer = CodebookQuantizer(book, group)
    stored, columns = quantizer.quantize(rows), rows.shape[1]
    numbers = (stored.steps // np.array([1, STEPS]) % STEPS).reshape(len(rows), -1)
    steps = step_sizes(quantizer.largest)[numbers]
    steps = np.repeat(steps, min(group or columns, columns), axis=1)[:, :columns]
    scaled = rows / stored.scale[:, None]
    nearest = np.searchsorted(book.middles, scaled / steps).ravel()
    count = len(book.levels)
    sums = np.bincount(nearest, (scaled * steps).ravel(), count)
    weights = np.bincount(nearest, np.square(steps).ravel(), count)
    return sums.astype(np.float32), weights.astype(np.float32)


def ways(layer: Layer) -> Iterator[tuple[str, Cost]]:
    """Every way to store a layer."""
    for group in GROUPS:
        behind = f", groups of {group}" if group else ", one group a row"
        four = Int4Quantizer(group)
        yield f"int4{behind}", layer.whole(four)
        for name, book in FEW_BITS.items():
            books = {
                "": book,
                ", even levels": even(book),
                ", k-means per layer": fitted(book, layer.rows, group, zero=True),
                ", k-means without a zero": fitted(book, layer.rows, group, zero=False),
            }
            for title, tried in books.items():
                yield f"{name}{behind}{title}", layer.whole(CodebookQuantizer(tried, group))
            limit = bytes_of(CodebookQuantizer(book, group), *layer.matrix.shape)
            equal = f"int4{behind}, at the bytes of {name}:"
            yield f"{equal} strongest inputs", layer.fewer_inputs(four, limit)
            yield f"{equal} low rank", layer.low_rank(four, limit)


@dataclass
class Total:
    """One way, over all layers of a kind."""

    stored: int = 0
    int8: int = 0
    weights: int = 0
    error: float = 0.0

    def add(self, layer: Layer, cost: Cost) -> None:
        """One more layer; its error counts as often as it has weights."""
        size = layer.matrix.size
        self.stored += cost[0]
        self.int8 += bytes_of(Int8Quantizer(), *layer.matrix.shape)
        self.error = (self.error * self.weights + cost[1] * size) / (self.weights + size)
        self.weights += size


def totals(checkpoint: Path) -> dict[str, dict[str, Total]]:
    """Kind of layer -> way -> what it comes to."""
    found: dict[str, dict[str, Total]] = defaultdict(lambda: defaultdict(Total))
    for layer in layers_of(checkpoint):
        for title, cost in ways(layer):
            found[layer.kind][title].add(layer, cost)
    return found


def main() -> None:
    """Print a table per kind of layer, the fewest bytes first."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    for kind, rows in totals(parser.parse_args().checkpoint).items():
        weights = next(iter(rows.values())).weights
        table = Table("stored as", "bits", "of int8", "error", title=f"{kind}, {weights:,} weights")
        for title, total in sorted(rows.items(), key=lambda row: row[1].stored):
            bits, part = 8 * total.stored / total.weights, total.stored / total.int8
            table.add_row(title, f"{bits:.3f}", f"{part:.4f}", f"{total.error:.4f}")
        Console(width=120).print(table)


if __name__ == "__main__":
    main()
