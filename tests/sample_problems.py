"""Search problems small enough to enumerate, or large enough not to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nas.experiment.metrics import find_metric
from nas.experiment.objectives import FloatArray
from nas.search.problem import History, SearchProblem
from nas.search.strategy import Strategy
from supernets.space.space import Gene, Genomes, Requires, SearchSpace

PRECISIONS = ("int4", "int8", "fp32")


def block_space(blocks: int) -> SearchSpace:
    depths = tuple(range(1, blocks + 1))
    genes = [Gene("depth", depths)]
    for block in range(blocks):
        needed = Requires("depth", block + 1) if block else None
        genes.append(Gene(f"blocks.{block}.width", (2, 3, 4), needed))
        genes.append(Gene.precision(f"blocks.{block}", PRECISIONS, needed))
    return SearchSpace(tuple(genes))


def measure(problem: SearchProblem, genomes: Genomes) -> FloatArray:
    """Accuracy, latency and size of made-up blocks; columns as `problem.metrics` wants them."""
    space = problem.space
    active = space.active(genomes)
    widths = np.where(active[:, 1::2], genomes[:, 1::2] + 2, 0)
    bits = np.array([4, 8, 32])[genomes[:, 2::2]]
    loss = (np.array([0.3, 0.02, 0.0])[genomes[:, 2::2]] / (1 + np.arange(widths.shape[1]))) * (
        widths > 0
    )
    capacity = widths.sum(axis=1) / (4 * widths.shape[1])
    values = {
        "accuracy": 0.5 + 0.5 * capacity * np.exp(-loss.sum(axis=1)),
        "latency_ms": 0.1 + (widths * np.where(bits == 32, 1.0, 0.3)).sum(axis=1),
        "size_bytes": (widths * bits).sum(axis=1) * 10.0,
    }
    # Whatever says how good answers are has accuracy's values.
    names = ("accuracy" if metric.quality else metric.name for metric in problem.metrics)
    return np.stack([values[name] for name in names], axis=1)


def block_problem(
    blocks: int = 3, names: Sequence[str] = ("accuracy", "latency_ms"), **options: Any
) -> SearchProblem:
    return SearchProblem(block_space(blocks), tuple(find_metric(name) for name in names), **options)


def play(
    strategy: Strategy,
    problem: SearchProblem,
    evaluations: int,
    n: int = 6,
    history: History | None = None,
) -> History:
    """Let a strategy and the made-up measurements take turns."""
    history = History.empty(problem) if history is None else history
    while len(history) < evaluations:
        genomes = strategy.propose(history, min(n, evaluations - len(history)))
        if not len(genomes):
            break
        history = history.append(genomes, measure(problem, genomes))
    return history
