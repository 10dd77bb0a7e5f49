"""What the page draws of a network: genes by block, and their values in a candidate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nas.evaluation.candidate import Candidate
from supernets.space.space import PRECISION_SUFFIX, Choice, Gene, SearchSpace

WHOLE = "whole network"
"""The block of genes that belong to none."""


def space_of(candidates: Sequence[Candidate]) -> SearchSpace:
    """The genes that candidates show, for a run whose space is not known."""
    values: dict[str, list[Choice]] = {}
    for candidate in candidates:
        for name, value in candidate.values.items():
            values.setdefault(name, []).append(value)
    genes = []
    for name, found in values.items():
        if name.endswith(PRECISION_SUFFIX):
            kind = "precision"
        else:
            kind = "choice" if isinstance(found[0], str) else "size"
        choices = tuple(sorted(set(found), key=lambda v: (isinstance(v, str), v)))
        genes.append(Gene(name, choices, None, kind))  # type: ignore[arg-type] # one of its kinds
    return SearchSpace(tuple(genes))


def genes_json(space: SearchSpace, largest: Candidate) -> list[dict[str, Any]]:
    """Block, label, kind and full value of every gene, in the network's order."""
    full = largest.values
    return [
        {
            "block": block_of(gene.name),
            "label": label_of(gene),
            "kind": gene.kind,
            "full": full.get(gene.name, gene.choices[-1]),
        }
        for gene in space.genes
    ]


def values_json(space: SearchSpace, candidate: Candidate) -> list[Choice | None]:
    """Value of every gene, None where the candidate has no such layer or block."""
    values = candidate.values
    return [values.get(gene.name) for gene in space.genes]


def block_of(name: str) -> str:
    """The path up to the last number in it: `stages.1.blocks.2` of its genes and layers."""
    parts = name.split(".")
    last = max((i for i, part in enumerate(parts) if part.isdigit()), default=None)
    return WHOLE if last is None else ".".join(parts[: last + 1])


def label_of(gene: Gene) -> str:
    """The gene's name inside its block."""
    name = gene.layer if gene.kind == "precision" else gene.name
    return name.removeprefix(block_of(name) + ".")
