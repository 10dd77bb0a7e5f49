"""What the search gave each half of networks that have layers for images and layers for texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import numpy as np

from nas.delivery.results import Front
from nas.evaluation.candidate import Candidate
from supernets.settings import Kind

COLUMNS = ("model", "half", "blocks", "heads a block", "neurons a block", "bits a layer")
SIZES = ("attention.num_heads", "mlp.hidden_dim")


def half_of(name: str) -> str | None:
    """The half that a gene or layer is of, where there are two."""
    return next((part for part in name.split(".") if part in get_args(Kind)), None)


def halves(front: Front) -> list[tuple[str, ...]]:
    """A row under `COLUMNS` for every half of every model; none where networks have one alone."""
    kinds = [
        kind for kind in get_args(Kind) if any(_layers(m.candidate, kind) for m in front.models)
    ]
    if len(kinds) < 2:
        return []
    return [_row(m.name, m.candidate, kind) for m in front.models for kind in kinds]


def _layers(candidate: Candidate, half: str) -> list[str]:
    return [name for name in candidate.policy if half_of(name) == half]


def _row(name: str, candidate: Candidate, half: str) -> tuple[str, ...]:
    """Means of what the blocks that are left have of a half."""
    layers = _layers(candidate, half)
    blocks = sorted({layer.partition(f".{half}.")[0] for layer in layers})
    architecture = dict(candidate.architecture)
    sizes = [
        [architecture[gene] for block in blocks if (gene := f"{block}.{half}.{of}") in architecture]
        for of in SIZES
    ]
    bits = np.mean([candidate.policy[layer].bits for layer in layers])
    return (name, half, str(len(blocks)), *map(_mean, sizes), f"{bits:.1f}")


def _mean(sizes: Sequence[object]) -> str:
    """Their mean, a dash where the space has no such gene."""
    return f"{np.mean([float(str(size)) for size in sizes]):.1f}" if sizes else "-"
