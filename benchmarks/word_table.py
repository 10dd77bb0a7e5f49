"""Ways to a smaller word table, for real weights: fewer bits, a product of low rank, fewer pieces.

    python benchmarks/word_table.py CHECKPOINT DATA
    python benchmarks/word_table.py --run RUN

CHECKPOINT is a folder with model.safetensors and a fast tokenizer, DATA a data set of texts. Errors
are shares of the table's energy; `used` weighs a row by how often training texts use it. Low rank
is the best there is (Eckart and Young 1936), of rows weighted by their use where that is said; its
factors are stored in low precision too, the narrow one in INT8. Bytes are of the written layers.
RUN is a run folder whose space has vocabularies: accuracy of its full network with each, in FP32.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from onnx.helper import make_node
from rich.console import Console
from rich.table import Table
from safetensors.torch import load_file
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hardware.formats.format import LayerValues, LayerWriter
from hardware.formats.registry import find_format
from hardware.formats.scheme import QuantScheme
from hardware.formats.weight_memo import WeightMemo
from hardware.graph.graph_writer import GraphWriter
from hardware.graph.layer import LayerKind
from hardware.graph.static_activations import Plan, Ranges, StaticActivations
from hardware.graph.template import DOMAIN
from nas.run.run_folder import RunFolder
from nas.run.saved_experiment import read_experiment
from nas.training.train_supernet import read_network
from supernets.data.data import Split, TaskData
from supernets.data.text import TextPreprocessor
from supernets.data.vocabulary.cost import vocabularies
from supernets.families.super_network import SuperNetwork
from supernets.layers.twins.twin import twin_of
from supernets.load import load_data
from supernets.metrics.classes import ACCURACY
from supernets.model_settings import ModelSettings
from supernets.settings import DataSettings
from supernets.space.space import VOCABULARY
from supernets.tasks.predictions import Predictions

SCHEME = QuantScheme()
FORMATS = ("int2", "int3", "int4", "int8", "fp32")
RANKS = (0.25, 0.5, 0.75, 0.9)
PARTS = (1.0, 0.5, 0.25, 0.15, 0.1, 0.075)


@dataclass(frozen=True)
class WordTable:
    """A table `(rows, width)`, and how often texts use its rows `(rows,)`."""

    weight: Tensor
    uses: Tensor

    def errors(self, other: Tensor) -> tuple[float, float]:
        """Share of the energy that another table misses: of all rows alike, and of those used."""
        missed, whole = (x.square().sum(1) for x in (other - self.weight, self.weight))
        plain, used = (float((w * missed).sum() / (w * whole).sum()) for w in (1, self.uses))
        return plain, used

    def directions(self, weighted: bool) -> Tensor:
        """Of the rows, perhaps weighted by their use: the strongest first `(width, width)`."""
        scale = (self.uses + 1).sqrt()[:, None] if weighted else torch.ones(1)
        scaled = scale * self.weight
        _, vectors = torch.linalg.eigh((scaled.T @ scaled).double())
        strongest: Tensor = vectors.flip(1).float()
        return strongest


def stored(weight: Tensor, name: str) -> Tensor:
    """What a layer in this format computes with."""
    twin = twin_of(find_format(name))
    return weight if name == "fp32" else twin.rounded(weight.contiguous(), SCHEME)


def written_bytes(weight: Tensor, name: str, kind: LayerKind) -> int:
    """Bytes of one layer in a file."""
    graph = GraphWriter()
    activations = StaticActivations(graph, Plan(), Ranges({}))
    writer = LayerWriter(graph, SCHEME, WeightMemo(), activations)
    node = make_node("Gather", ["table.weight", "ids"], ["out"])
    if kind == "linear":
        node = make_node("Linear", ["x", "table.weight"], ["out"], domain=DOMAIN)
    values = LayerValues("table", kind, node, weight.contiguous().numpy(), None)
    find_format(name).write(values, writer)
    return int(graph.graph.ByteSize())


def ways(table: WordTable) -> Iterator[tuple[str, int, float, float]]:
    """Name, bytes and both errors of every way to store all rows."""
    for name in FORMATS[:-1]:
        kept = stored(table.weight, name)
        yield name, written_bytes(table.weight, name, "embedding"), *table.errors(kept)
    for weighted in (False, True):
        found = table.directions(weighted)
        for rank in (round(part * len(found)) for part in RANKS):
            across = found[:, :rank].contiguous()
            rows, narrow = table.weight @ across, stored(across, "int8")
            for name in FORMATS:
                size = written_bytes(rows, name, "embedding")
                size += written_bytes(across, "int8", "linear")
                title = f"rank {rank}{' of rows by use' if weighted else ''}, {name}"
                yield title, size, *table.errors(stored(rows, name) @ narrow.T)


def by_bytes(table: WordTable) -> Table:
    """All of them, the smallest first."""
    shown = Table("stored as", "MB", "error", "error, used", title="Word table, all pieces")
    for title, size, plain, used in sorted(ways(table), key=lambda way: way[1]):
        shown.add_row(title, f"{size / 1e6:.2f}", f"{plain:.4f}", f"{used:.4f}")
    return shown


def by_pieces(data: TaskData, table: Tensor) -> Table:
    """Bytes in INT4, and what vocabularies cost, the smallest first."""
    assert isinstance(data.preprocessor, TextPreprocessor)
    pieces = data.preprocessor.pieces
    columns = ("pieces", "MB in int4", "validation", "texts of another source")
    shown = Table(*columns, title=f"Vocabulary; every text needs {pieces.needed:,} pieces")
    for size, sources in vocabularies(data, PARTS, "").items():
        weight = table[torch.from_numpy(pieces.order[: int(size)])]
        megabytes = written_bytes(weight, "int4", "embedding") / 1e6
        shown.add_row(f"{int(size):,}", f"{megabytes:.2f}", *map(str, sources.values()))
    return shown


def by_accuracy(run: Path) -> Table:
    """What a tuned network answers right with fewer pieces, and how long texts are then."""
    experiment = read_experiment(RunFolder(run))
    data = load_data(experiment.data, experiment.model, experiment.task)
    network = read_network(run / "supernet")
    (gene,) = (g for g in network.space(experiment.space).genes if g.name == VOCABULARY)
    shown = Table("pieces", "tokens a text", "validation", "test", title="Accuracy by vocabulary")
    for size in gene.choices:
        network.activate({VOCABULARY: size})
        seen = [split.seen_by({VOCABULARY: size}) for split in (data.validation, data.test)]
        tokens = sum(int(b.inputs["attention_mask"].sum()) for b in seen[0].batches(128))
        found = (f"{right(network, split):.4f}" for split in seen)
        shown.add_row(f"{int(size):,}", f"{tokens / len(seen[0]):.2f}", *found)
    return shown


@torch.inference_mode()
def right(network: SuperNetwork, split: Split) -> float:
    """Part of the texts, in the active vocabulary's pieces, that the network classifies right."""
    found = Predictions(split.task)
    for batch in split.batches(128):
        outputs = network.eval()(**network.adapt_inputs(batch.inputs))
        found.add(outputs.numpy(), batch.labels.numpy())
    return found.score(ACCURACY)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path, nargs="?")
    parser.add_argument("data", nargs="?")
    parser.add_argument("--run", type=Path)
    given = parser.parse_args()
    if given.run is not None:
        Console().print(by_accuracy(given.run))
        return
    if given.data is None:
        parser.error("give CHECKPOINT and DATA, or --run RUN")
    weights = load_file(given.checkpoint / "model.safetensors")
    name = next(name for name in weights if name.endswith("word_embeddings.weight"))
    model = ModelSettings.model_validate({"checkpoint": str(given.checkpoint)})
    data, weight = load_data(DataSettings(name=given.data), model), weights[name].float()
    assert isinstance(data.preprocessor, TextPreprocessor)
    console, uses = Console(), data.preprocessor.uses
    console.print(by_pieces(data, weight))
    console.print(by_bytes(WordTable(weight, torch.from_numpy(uses).float())))


if __name__ == "__main__":
    main()
