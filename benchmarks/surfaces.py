"""Search problems whose every value is known, so that a search can be judged exactly."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.enumerate_digits import METRICS
from nas.cost_models import StructureFeatures
from nas.experiment.load import load_experiment
from nas.experiment.metrics import find_metric
from nas.experiment.objectives import FloatArray
from nas.search.pareto import hypervolume, non_dominated, reference_point
from nas.search.problem import SearchProblem
from predictors.features import cost_by_precision, precision_changes
from supernets.load import supernet
from supernets.space.space import Gene, Genomes, Requires, SearchSpace


@dataclass(frozen=True)
class Surface:
    """A problem, its true values, its measured (noisy) values and its true Pareto front.

    front: costs of the true front; reference: bound of the hypervolume, in costs.
    """

    name: str
    problem: SearchProblem
    truth: Callable[[Genomes], FloatArray]
    measure: Callable[[Genomes, np.random.Generator], FloatArray]
    front: FloatArray
    reference: FloatArray

    def share(self, genomes: Genomes) -> float:
        """Hypervolume of the candidates' true values over the true front's."""
        costs = self.problem.costs(self.truth(genomes))
        return hypervolume(costs, self.reference) / hypervolume(self.front, self.reference)


def nas_bench_macro(path: Path) -> Surface:
    """Accuracy against FLOPs of the 6,561 trained networks of NAS-Bench-Macro (Su et al. 2021).

    A measurement is the accuracy of one of the three training runs, the truth is their mean.
    """
    table = json.loads(path.read_text())
    space = SearchSpace(tuple(Gene(f"layer.{i}.width", (0, 1, 2)) for i in range(8)))
    keys = sorted(table)
    accuracy = np.array([table[key]["mean_acc"] for key in keys]) / 100
    runs = np.array([table[key]["test_acc"] for key in keys]) / 100
    macs = np.array([table[key]["flops"] for key in keys], dtype=float)
    problem = SearchProblem(space, (find_metric("accuracy"), find_metric("macs")))

    def row(genomes: Genomes) -> Genomes:
        return np.asarray(genomes @ 3 ** np.arange(7, -1, -1))

    def truth(genomes: Genomes) -> FloatArray:
        return np.stack([accuracy[row(genomes)], macs[row(genomes)]], axis=1)

    def measure(genomes: Genomes, rng: np.random.Generator) -> FloatArray:
        run = rng.integers(0, 3, size=len(genomes))
        return np.stack([runs[row(genomes), run], macs[row(genomes)]], axis=1)

    costs = problem.costs(np.stack([accuracy, macs], axis=1))
    reference = np.array([-0.8, macs.max() * 1.05])
    return Surface(
        "NAS-Bench-Macro", problem, truth, measure, costs[non_dominated(costs)], reference
    )


def digits_small(path: Path) -> Surface:
    """Accuracy against file size of all candidates of digits_small.yaml, measured once each.

    The table (enumerate_digits.py) is the truth and the measurement. Size is known exactly, as in
    the product. The latency in the table stays out: it carries the noise of a busy machine.
    """
    return _digits(path, "size_bytes")


def digits_latency(path: Path) -> Surface:
    """Accuracy against that latency, to judge predictors on, with the product's features."""
    experiment = load_experiment(path.with_suffix(".yaml"))
    assert experiment.model.sizes is not None
    network, surface = supernet(experiment.model.sizes, num_labels=10), _digits(path, "latency_ms")
    space = surface.problem.space
    structure = StructureFeatures(space, lambda genomes: network.cost(space, genomes, None))
    problem = replace(surface.problem, features=structure.features, cheap=structure.cheap)
    return replace(surface, problem=problem)


def _digits(path: Path, cost: str) -> Surface:
    with np.load(path) as file:
        table = {name: file[name] for name in file.files}
    space = SearchSpace.from_json(json.loads(str(table["space"])))
    weights = np.concatenate([[1], np.cumprod(space.n_choices[:0:-1])])[::-1]
    codes = (table["genomes"].astype(np.int64) @ weights).tolist()
    position = dict(zip(codes, range(len(codes)), strict=True))

    columns = [METRICS.index(name) for name in ("accuracy", cost)]
    values = table["values"][:, columns].astype(np.float64)

    def truth(genomes: Genomes) -> FloatArray:
        return np.asarray(values[[position[code] for code in (genomes @ weights).tolist()]])

    problem = SearchProblem(
        space,
        tuple(find_metric(name) for name in ("accuracy", cost)),
        exact={cost: lambda genomes: truth(genomes)[:, 1]} if cost == "size_bytes" else {},
    )
    costs = problem.costs(values)
    front = costs[non_dominated(costs)]
    return Surface(
        "digits", problem, truth, lambda genomes, _: truth(genomes), front, reference_point(front)
    )


BLOCKS, LAYERS = 13, ("query", "key", "value", "out", "fc1", "fc2")
PRECISIONS = ("int4", "int8", "fp32")
HEADS, WIDTHS, DEPTHS = (6, 8, 10, 12), (1024, 2048, 3072), tuple(range(8, 14))
TOKENS = np.array([0.51, 0.735, 1.0])  # by resolution, of the most
BITS = np.array([4, 8, 32])


def synthetic_space() -> SearchSpace:
    """A 13-block transformer: depth, heads and width per block, precision per layer: 110 genes."""
    genes = [Gene("depth", DEPTHS), Gene("resolution", (160, 192, 224))]
    genes += [Gene.precision(f"{name}", PRECISIONS) for name in ("patch_embed", "pooler", "head")]
    for block in range(BLOCKS):
        needed = Requires("depth", block + 1) if block + 1 > DEPTHS[0] else None
        genes.append(Gene(f"blocks.{block}.attention.num_heads", HEADS, needed))
        genes.append(Gene(f"blocks.{block}.mlp.hidden_dim", WIDTHS, needed))
        genes += [Gene.precision(f"blocks.{block}.{name}", PRECISIONS, needed) for name in LAYERS]
    genes.append(Gene.precision("embed", PRECISIONS))
    return SearchSpace(tuple(genes))


@dataclass(frozen=True)
class SyntheticModel:
    """Formula of the synthetic surface: damage and milliseconds add up over independent parts.

    A part is a block or one of the genes outside the blocks, so the true front follows from the
    parts' own fronts exactly, however their genes interact inside.
    """

    space: SearchSpace
    layer_damage: FloatArray  # (BLOCKS, 6) of INT4
    head_damage: FloatArray  # (BLOCKS,) of the fewest heads
    width_damage: FloatArray  # (BLOCKS,)
    drop_damage: FloatArray  # (BLOCKS,)
    other_damage: FloatArray  # (4,) of INT4 outside the blocks
    int4_speed: FloatArray  # (BLOCKS, 6) time relative to FP32

    @classmethod
    def draw(cls, seed: int = 7) -> SyntheticModel:
        """Sensitivities differ by orders of magnitude between layers, as measured ones do."""
        rng = np.random.default_rng(seed)
        return cls(
            synthetic_space(),
            rng.lognormal(-4.6, 1.2, (BLOCKS, 6)),
            rng.lognormal(-4.0, 0.8, BLOCKS),
            rng.lognormal(-3.8, 0.8, BLOCKS),
            rng.lognormal(-2.8, 0.4, BLOCKS),
            rng.lognormal(-3.5, 0.8, 4),
            rng.uniform(0.12, 0.3, (BLOCKS, 6)),
        )

    def block(self, b: int, genes: Genomes) -> FloatArray:
        """Damage and milliseconds of block `b` with genes (heads, width, 6 precisions)."""
        heads, width, precision = genes[:, 0], genes[:, 1], genes[:, 2:]
        share = np.array(HEADS)[heads] / HEADS[-1]
        wide = np.array(WIDTHS)[width] / WIDTHS[-1]
        lost = self.head_damage[b] * (1 - share) ** 1.5 + self.width_damage[b] * (1 - wide) ** 1.5
        factor = np.array([1.0, 0.04, 0.0])[precision]
        coarse = (factor * self.layer_damage[b]).sum(axis=1)
        pair = 4 * factor[:, 4] * factor[:, 5] * np.sqrt(self.layer_damage[b, 4:].prod())
        damage = lost + coarse * (1 + 10 * lost) + pair
        macs = np.stack([share] * 4 + [4 * wide, 4 * wide], axis=1)
        speed = np.stack([self.int4_speed[b], np.full(6, 0.25), np.ones(6)])
        time = (macs * speed[precision, np.arange(6)]).sum(axis=1)
        changes = (precision[:, 1:] != precision[:, :-1]).sum(axis=1)
        return np.stack([damage, 0.25 * share + time + 0.05 * changes], axis=1)

    def parts(self, genomes: Genomes) -> FloatArray:
        """Damage and milliseconds `(n_samples, 2)`."""
        column = self.space.column
        depth = np.array(DEPTHS)[genomes[:, 0]]
        total = self.outside(genomes[:, [2, 3, 4, column["embed.precision"]]])
        for b in range(BLOCKS):
            first = column[f"blocks.{b}.attention.num_heads"]
            inside = self.block(b, genomes[:, first : first + 8])
            dropped = np.array([self.drop_damage[b], 0.0])
            total += np.where((depth > b)[:, None], inside, dropped)
        return self.scaled(total, genomes[:, 1])

    def outside(self, precision: Genomes) -> FloatArray:
        """Damage and milliseconds of the four layers outside the blocks."""
        damage = (np.array([1.0, 0.04, 0.0])[precision] * self.other_damage).sum(axis=1)
        return np.stack([damage, np.array([0.1, 0.15, 0.5])[precision].sum(axis=1)], axis=1)

    def scaled(self, total: FloatArray, resolution: Genomes) -> FloatArray:
        """Add the resolution's damage and scale the time with the number of tokens."""
        damage = total[:, 0] + np.array([0.12, 0.04, 0.0])[resolution]
        return np.stack([damage, total[:, 1] * TOKENS[resolution]], axis=1)

    def values(self, genomes: Genomes) -> FloatArray:
        """Accuracy and milliseconds `(n_samples, 2)`; accuracy falls smoothly with damage."""
        parts = self.parts(genomes)
        return np.stack([0.1 + 0.82 * np.exp(-parts[:, 0]), parts[:, 1]], axis=1)

    def layers(self, genomes: Genomes) -> tuple[FloatArray, Genomes, FloatArray]:
        """Weights and precision `(n_samples, n_layers)`, and attention's MACs `(n_samples, 1)`.

        A switched-off layer has no weights. The unit is one full attention projection.
        """
        column, depth = self.space.column, np.array(DEPTHS)[genomes[:, 0]]
        outside = genomes[:, [2, 3, 4, column["embed.precision"]]]
        weights, precisions = [np.full(outside.shape, 0.5)], [outside]
        attention = np.zeros((len(genomes), 1))
        for b in range(BLOCKS):
            first = column[f"blocks.{b}.attention.num_heads"]
            share = (depth > b) * np.array(HEADS)[genomes[:, first]] / HEADS[-1]
            wide = (depth > b) * np.array(WIDTHS)[genomes[:, first + 1]] / WIDTHS[-1]
            weights.append(np.stack([share] * 4 + [4 * wide] * 2, axis=1))
            precisions.append(genomes[:, first + 2 : first + 8])
            attention[:, 0] += share
        return np.hstack(weights), np.hstack(precisions), attention

    def structure(self, genomes: Genomes) -> FloatArray:
        """What `StructureFeatures` tells of a real network, `(n_samples, n_features)`."""
        weights, precision, attention = self.layers(genomes)
        tokens, n = TOKENS[genomes[:, [1]]], len(PRECISIONS)
        parts = [
            cost_by_precision(weights * tokens, precision, n),
            cost_by_precision(weights, precision, n),
            attention * tokens,
            precision_changes(precision, weights > 0, n),
        ]
        return np.hstack(parts)

    def cheap(self, genomes: Genomes) -> FloatArray:
        """MACs and stored weight bits `(n_samples, 2)`."""
        weights, precision, attention = self.layers(genomes)
        macs = (weights.sum(axis=1) + attention[:, 0]) * TOKENS[genomes[:, 1]]
        return np.stack([macs, (weights * BITS[precision]).sum(axis=1)], axis=1)

    def true_front(self) -> FloatArray:
        """Costs of the true front: the parts' fronts added one by one, for every depth."""
        grid = np.array(np.meshgrid(range(4), range(3), *[range(3)] * 6, indexing="ij"))
        genes = grid.reshape(8, -1).T
        outside = np.array(np.meshgrid(*[range(3)] * 4, indexing="ij")).reshape(4, -1).T
        total = thin(self.outside(outside))
        points = []
        for b in range(BLOCKS):
            inside = thin(self.block(b, genes))
            total = thin((total[:, None] + inside).reshape(-1, 2))
            if b + 1 in DEPTHS:
                rest = total + np.array([self.drop_damage[b + 1 :].sum(), 0.0])
                points += [self.scaled(rest, np.full(len(rest), r)) for r in range(3)]
        parts = thin(np.vstack(points))
        return np.stack([-(0.1 + 0.82 * np.exp(-parts[:, 0])), parts[:, 1]], axis=1)


def thin(points: FloatArray, limit: int = 4000) -> FloatArray:
    """The front of `points`; past `limit` points one per cell of a fine grid in time."""
    ordered = points[np.lexsort((points[:, 0], points[:, 1]))]
    lowest = np.minimum.accumulate(ordered[:, 0])
    kept: FloatArray = ordered[np.concatenate([[True], ordered[1:, 0] < lowest[:-1]])]
    if len(kept) <= limit:
        return kept
    cell = ((kept[:, 1] - kept[0, 1]) / np.ptp(kept[:, 1]) * limit).astype(int)
    _, lasts = np.unique(cell[::-1], return_index=True)
    thinned: FloatArray = kept[np.sort(len(kept) - 1 - lasts)]
    return thinned


def synthetic() -> Surface:
    """The 110-gene surface with noise of 0.2 accuracy points and 2 % of the latency."""
    model = SyntheticModel.draw()
    problem = SearchProblem(
        model.space,
        (find_metric("accuracy"), find_metric("latency_ms")),
        features=model.structure,
        cheap=model.cheap,
    )

    def measure(genomes: Genomes, rng: np.random.Generator) -> FloatArray:
        noise: FloatArray = rng.standard_normal((len(genomes), 2))
        values = model.values(genomes)
        noise *= np.stack([np.full(len(values), 0.002), 0.02 * values[:, 1]], axis=1)
        return values + noise

    front = model.true_front()
    slowest = model.values(model.space.largest()[None])[0, 1]
    return Surface(
        "synthetic", problem, model.values, measure, front, np.array([-0.1, 1.05 * slowest])
    )
