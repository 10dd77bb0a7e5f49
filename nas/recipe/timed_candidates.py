"""What it costs on this machine to measure candidates, from a few of them."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from math import prod
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from hardware.formats.registry import ordered
from hardware.formats.weight_memo import ShapeMemo
from nas.evaluation.baselines import PLAIN, low_reference, reference_candidates
from nas.evaluation.built_candidate import BuiltCandidate
from nas.evaluation.candidate import Candidate
from nas.evaluation.candidate_builder import CandidateBuilder
from nas.evaluation.latency_cache import LatencyCache
from nas.evaluation.latency_meter import LocalLatency
from nas.recipe.stopwatch import timed
from nas.run_session import SCORE_METERS
from supernets.data.data import Split
from supernets.space.space import Genomes

DRAWN, TIMED_CANDIDATES, TIMED_S = 30, 3, 20.0
"""Sub-networks drawn at random, how many of them are timed, and seconds after which no more are."""
SCORED_S, FEWEST, MOST = 1.0, 16, 256
"""Seconds for which a model is asked about samples, and how many those are."""
FIRST = 8
"""Samples that a model is asked about before: what it takes once is not taken for each sample."""


class CandidateCosts(NamedTuple):
    """Seconds of one sample, and of all else, by reference and, under "candidate", of sub-networks
    on average."""

    sample_s: dict[str, float]
    other_s: dict[str, float]


def unrounded(builder: CandidateBuilder) -> CandidateBuilder:
    """The same, by which candidates take as long as where every layer was rounded before.

    It would round by what layers read of the first calibration batch alone.
    """
    if (feedback := builder.feedback) is None:
        return builder
    return replace(
        builder,
        feedback=replace(feedback, calibration=feedback.calibration[:1], memo=ShapeMemo()),
    )


def typical(builder: CandidateBuilder, seed: int) -> list[Candidate]:
    """Sub-networks: a middling one, one of few multiply-accumulates and one of many."""
    genomes = builder.space.sample(DRAWN, np.random.default_rng(seed))
    order = np.argsort(builder.cost(genomes).macs, kind="stable")
    places = [len(order) * part // (2 * TIMED_CANDIDATES) for part in (3, 1, 5)]
    return [Candidate.from_genome(builder.space, genomes[order[i]]) for i in dict.fromkeys(places)]


def part_of(split: Split, samples: int) -> Split:
    """So many samples from all over a split."""
    count = min(samples, len(split))
    return split.part(torch.linspace(0, len(split) - 1, count).long())


def candidate_costs(
    builder: CandidateBuilder, meter: str, validation: Split, candidates: Sequence[Candidate]
) -> CandidateCosts:
    """Time references and sub-networks. builder: `unrounded`. meter: of `SCORE_METERS`."""
    references = reference_candidates(builder)
    names = [low_reference(references), PLAIN]  # in the order in which latency needs them

    def score(built: BuiltCandidate, samples: int) -> float:
        part = part_of(validation, samples)
        return timed(lambda: SCORE_METERS[meter](builder, part).predictions(built))[1]

    with tempfile.TemporaryDirectory() as folder:  # not the cache: these weights are nobody's
        latency = LocalLatency(builder, references[names[0]], LatencyCache(Path(folder)))

        def evaluate(candidate: Candidate) -> tuple[float, float]:
            built, building_s = timed(lambda: builder.build(candidate))
            found, timing_s = timed(lambda: latency.begin(built)().latency)
            one_s = found.median_ms / 1e3 / builder.target.batch_size
            samples = min(len(validation), int(np.clip(SCORED_S / one_s, FEWEST, MOST)))
            first_s, all_s = score(built, FIRST), score(built, samples)
            sample_s = max(0.0, all_s - first_s) / max(1, samples - FIRST) or all_s / samples
            return sample_s, building_s + timing_s + max(0.0, first_s - FIRST * sample_s)

        found = {name: evaluate(references[name]) for name in names}
        taken, spent_s = list[tuple[float, float]](), 0.0
        for candidate in candidates:
            if spent_s < TIMED_S:
                costs, seconds = timed(partial(evaluate, candidate))
                taken, spent_s = [*taken, costs], spent_s + seconds
    sample_s, other_s = np.mean(taken, axis=0).tolist()
    found["candidate"] = (sample_s, other_s)
    return CandidateCosts(*({name: row[k] for name, row in found.items()} for k in (0, 1)))


def rounding_s(builder: CandidateBuilder, candidate: Candidate, genomes: Genomes) -> list[float]:
    """Seconds in which the first of candidates `(n, n_genes)` have layers rounded that none before
    them had, the first 1 to n of them.

    builder: `unrounded`. candidate: of whose layers one of each shape is rounded for it.
    """
    feedback, network = builder.feedback, builder.network(candidate)
    if feedback is None:
        return [0.0] * len(genomes)
    quantizers, batch_s = timed(lambda: feedback.quantizers(candidate.policy, builder.scheme))
    inputs_s = batch_s * len(builder.calibration) / max(1, len(feedback.calibration))
    weights = {name: network.get_submodule(name).state_dict()["weight"] for name in quantizers}
    matrices = {name: weight.flatten(1).numpy() for name, weight in weights.items()}
    one_of_each = {matrix.shape: name for name, matrix in matrices.items()}
    taken_s = 0.0
    for (_, inputs), name in one_of_each.items():
        whole = quantizers[name]
        part = replace(whole, moments=whole.moments[:inputs, :inputs])
        taken_s += timed(partial(part.quantize, matrices[name]))[1]
    weight_s = taken_s / max(1, sum(prod(shape) for shape in one_of_each))
    return [inputs_s + weight_s * count for count in weights_to_round(builder, genomes).tolist()]


def weights_to_round(builder: CandidateBuilder, genomes: Genomes) -> NDArray[np.int64]:
    """Of the first candidates, `(n,)`: all outputs of layers, for every number of inputs and every
    format of few bits that one of them has."""
    cost, new = builder.cost(genomes), np.zeros(len(genomes), dtype=np.int64)
    for column, layer in enumerate(cost.layers):
        few = [entry.in_groups(layer.kind, builder.scheme) is not None for entry in ordered()]
        rows = np.flatnonzero(np.array(few)[cost.formats[:, column]] & cost.active[:, column])
        if layer.kind != "embedding" and len(rows):
            pairs = np.stack([cost.in_features, cost.formats])[:, rows, column]
            (inputs, _), first = np.unique(pairs, axis=1, return_index=True)
            np.add.at(new, rows[first], inputs * (layer.shape[0] * prod(layer.shape[2:])))
    return np.cumsum(new)
