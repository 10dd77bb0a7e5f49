"""Genes, and the space of all networks they span."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple, Self, cast

import numpy as np
from numpy.typing import NDArray

from hardware.formats.policy import QuantPolicy
from hardware.formats.registry import find_format

Choice = int | str
Architecture = Mapping[str, Choice]
"""Gene name -> value of everything but the precisions; a gene left out is at the full network's."""
FULL: Architecture = {}
"""The full network's."""
RESOLUTION, VOCABULARY, TEXT_LENGTH = "resolution", "vocabulary", "text_length"
"""Genes that say in what form samples are taken: pixels of images, pieces and tokens of texts."""
GeneKind = Literal["size", "choice", "precision"]
Genomes = NDArray[np.int64]
PRECISION_SUFFIX = ".precision"


def size_in(architecture: Architecture, gene: str, full: int) -> int:
    """Value of a size gene, `full` where it is left out."""
    value = architecture.get(gene, full)
    assert isinstance(value, int), f"{gene} is a size"
    return value


class Requires(NamedTuple):
    """A gene counts only while another size gene's value is at least `at_least`."""

    gene: str
    at_least: int


@dataclass(frozen=True)
class Gene:
    """One decision: the module path plus what it changes, and its choices from small to large.

    `blocks.3.mlp.hidden_dim` is a size, `blocks.3.mlp.fc1.precision` a precision. A `choice` has no
    order, but that the full network's comes last; its name is the path of the module that is
    chosen. A gene of a block that a small depth drops carries `requires`.
    """

    name: str
    choices: tuple[Choice, ...]
    requires: Requires | None = None
    kind: GeneKind = "size"

    @classmethod
    def precision(
        cls, layer: str, choices: tuple[Choice, ...], requires: Requires | None = None
    ) -> Self:
        """The gene of a layer's precision."""
        return cls(layer + PRECISION_SUFFIX, choices, requires, "precision")

    @property
    def layer(self) -> str:
        """Module path of the layer whose precision this gene is."""
        assert self.kind == "precision"
        return self.name.removesuffix(PRECISION_SUFFIX)

    def __post_init__(self) -> None:
        if not self.choices:
            raise ValueError(f"gene {self.name}: the list of choices is empty; give at least one")
        if len(set(self.choices)) != len(self.choices):
            raise ValueError(f"gene {self.name}: choices repeat in {list(self.choices)}")

    def index(self, choice: Choice) -> int:
        """Position of `choice`. Raises ValueError for a value that is not one."""
        if choice not in self.choices:
            raise ValueError(
                f"gene {self.name}: {choice!r} is not a choice; allowed are {list(self.choices)}"
            )
        return self.choices.index(choice)


@dataclass(frozen=True)
class SearchSpace:
    """Ordered genes. A genome is a row of choice indices, genomes are `(n_samples, n_genes)`."""

    genes: tuple[Gene, ...]

    def __post_init__(self) -> None:
        names = [gene.name for gene in self.genes]
        if len(set(names)) != len(names):
            raise ValueError("gene names repeat: " + ", ".join(sorted(names)))
        for gene in self.genes:
            if gene.requires is not None and gene.requires.gene not in names:
                raise ValueError(f"gene {gene.name} requires unknown gene {gene.requires.gene}")

    @cached_property
    def column(self) -> dict[str, int]:
        """Gene name -> position in the genome."""
        return {gene.name: position for position, gene in enumerate(self.genes)}

    @cached_property
    def n_choices(self) -> Genomes:
        """Number of choices per gene, `(n_genes,)`."""
        return np.array([len(gene.choices) for gene in self.genes], dtype=np.int64)

    def of_kind(self, *kinds: GeneKind) -> NDArray[np.bool_]:
        """Which genes are of these kinds, `(n_genes,)`."""
        return np.array([gene.kind in kinds for gene in self.genes], dtype=bool)

    @cached_property
    def named_choices(self) -> dict[str, tuple[str, ...]]:
        """Genes of kind `choice`, which are module paths -> their choices."""
        genes = (gene for gene in self.genes if gene.kind == "choice")
        return {gene.name: tuple(map(str, gene.choices)) for gene in genes}

    @cached_property
    def size(self) -> int:
        """Number of distinct networks; genomes that differ in switched-off genes alone are one."""
        parents = {gene.requires.gene for gene in self.genes if gene.requires is not None}
        total = 1
        for gene in self.genes:
            if gene.name in parents:
                total *= sum(self._networks_under(gene, choice) for choice in gene.choices)
            elif gene.requires is None:
                total *= len(gene.choices)
        return total

    def _networks_under(self, parent: Gene, choice: Choice) -> int:
        assert isinstance(choice, int), "only sizes switch others off"
        networks = 1
        for gene in self.genes:
            if gene.requires is not None and gene.requires.gene == parent.name:
                networks *= len(gene.choices) if choice >= gene.requires.at_least else 1
        return networks

    def active(self, genomes: Genomes) -> NDArray[np.bool_]:
        """Which genes have an effect, `(n_samples, n_genes)`."""
        mask = np.ones(genomes.shape, dtype=bool)
        for position, gene in enumerate(self.genes):
            if gene.requires is not None:
                parent = self.column[gene.requires.gene]
                values = np.array(self.genes[parent].choices)
                mask[:, position] = values[genomes[:, parent]] >= gene.requires.at_least
        return mask

    def canonical(self, genomes: Genomes) -> Genomes:
        """Set switched-off genes to choice 0, so that one network has one genome."""
        return np.where(self.active(genomes), genomes, 0)

    def sample(self, n: int, rng: np.random.Generator) -> Genomes:
        """Draw `n` genomes, every choice of every gene equally likely, `(n, n_genes)`."""
        return self.canonical(rng.integers(0, self.n_choices, size=(n, len(self.genes))))

    def decode(self, genome: Genomes) -> dict[str, Choice]:
        """Turn one genome `(n_genes,)` into the active genes' values."""
        active = self.active(genome[None])[0]
        return {
            gene.name: gene.choices[int(index)]
            for gene, index, on in zip(self.genes, genome, active, strict=True)
            if on
        }

    def split(self, genome: Genomes) -> tuple[dict[str, Choice], QuantPolicy]:
        """Architecture and precision policy of one genome `(n_genes,)`."""
        values = self.decode(genome)
        active = [gene for gene in self.genes if gene.name in values]
        policy = {g.layer: values.pop(g.name) for g in active if g.kind == "precision"}
        return values, QuantPolicy({k: find_format(name) for k, name in policy.items()})

    def encode(self, values: Mapping[str, Choice]) -> Genomes:
        """Turn gene values into a canonical genome `(n_genes,)`; genes left out get choice 0.

        Raises ValueError for an unknown gene, a value that is no choice, or a missing active gene.
        """
        unknown = sorted(set(values) - set(self.column))
        if unknown:
            raise ValueError(f"unknown genes {unknown}; `simqnas check` prints the genes")
        genome = np.array(
            [gene.index(values[gene.name]) if gene.name in values else 0 for gene in self.genes],
            dtype=np.int64,
        )
        active = self.active(genome[None])[0]
        missing = [
            g.name for g, on in zip(self.genes, active, strict=True) if on and g.name not in values
        ]
        if missing:
            raise ValueError(f"genes without a value: {missing}")
        return np.where(active, genome, 0)

    def holds(self, values: Mapping[str, Choice]) -> bool:
        """Whether every value is a choice of one of the genes."""
        return all(
            name in self.column and value in self.genes[self.column[name]].choices
            for name, value in values.items()
        )

    def smallest(self) -> Genomes:
        """The genome with every gene at its first choice, `(n_genes,)`."""
        return np.zeros(len(self.genes), dtype=np.int64)

    def largest(self) -> Genomes:
        """The genome with every gene at its last choice, `(n_genes,)`."""
        return self.n_choices - 1

    def middle(self) -> Genomes:
        """The genome with every gene at the middle one of its choices, `(n_genes,)`."""
        return np.asarray(self.canonical(self.largest()[None] // 2)[0])

    def to_json(self) -> list[dict[str, object]]:
        """Plain lists and dicts, read back by `from_json`."""
        return [
            {
                "name": gene.name,
                "choices": list(gene.choices),
                "requires": None if gene.requires is None else list(gene.requires),
                "kind": gene.kind,
            }
            for gene in self.genes
        ]

    @classmethod
    def from_json(cls, data: list[dict[str, object]]) -> SearchSpace:
        """Inverse of `to_json`. Version 0.1.0 wrote no kinds, and had no genes of kind `choice`."""
        genes = []
        for entry in data:
            name, choices, requires = entry["name"], entry["choices"], entry["requires"]
            assert isinstance(name, str)
            assert isinstance(choices, list)
            assert requires is None or isinstance(requires, list)
            old = "precision" if name.endswith(PRECISION_SUFFIX) else "size"
            kind = cast(GeneKind, entry.get("kind", old))
            needed = Requires(*requires) if requires else None
            genes.append(Gene(name, tuple(choices), needed, kind))
        return cls(tuple(genes))
