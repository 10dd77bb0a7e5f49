"""What two and three bits are worth in a search: with them in the space and without.

    python -m benchmarks.few_bits_search RUN [RUN ...] --out DIR [--seeds 0 1 2] [--evaluations 40]
                                         [--foreseen]

RUN is the folder of a finished run. Its space is searched with the formats it has, and with INT2
and INT3 for every layer besides; equally many measurements, no polish. Printed is the hypervolume
of accuracy, latency and size, of models better than the INT8 reference and at most so much less
accurate as the run's constraint allows, over that of both searches together. With `--foreseen`
accuracies and sizes are measured, latencies foreseen from those that the run measured: other work
on the machine, and noise of its clock, then have no part in the comparison.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from rich.console import Console

from benchmarks.headline import bound, explore
from hardware.formats.int2 import INT2
from hardware.formats.int3 import INT3
from hardware.formats.int8 import INT8
from hardware.formats.policy import QuantPolicy
from hardware.latency import Latency, Rounds
from hardware.session import Arrays
from nas.cost_models import StructureFeatures
from nas.delivery.markdown import markdown_table
from nas.delivery.selection import costs_of
from nas.evaluation.baselines import low_reference
from nas.evaluation.built_candidate import BuiltCandidate
from nas.evaluation.candidate import Candidate
from nas.evaluation.evaluator import Evaluator
from nas.evaluation.latency_meter import LatencyMeter, MeasuredLatency
from nas.evaluation.record import searched
from nas.experiment.objectives import FloatArray
from nas.run.progress import Reporter, rich_reporter
from nas.run.run_folder import RunFolder
from nas.run.saved_experiment import read_experiment
from nas.run_session import RunSession
from nas.search.pareto import hypervolume
from predictors.estimators import Ridge, Scaled
from supernets.load import load_data
from supernets.space.space import Gene, SearchSpace

FEWEST = (INT2.name, INT3.name)
OBJECTIVES = ("accuracy", "latency_ms", "size_bytes")
DROP = 0.02
"""From INT8's accuracy: models further away are of no use, as in searches by default."""


def with_fewer_bits(space: SearchSpace) -> SearchSpace:
    """The space with two and three bits wherever there are eight."""

    def more(gene: Gene) -> Gene:
        if gene.kind != "precision" or INT8.name not in gene.choices:
            return gene
        return replace(gene, choices=(*FEWEST, *(c for c in gene.choices if c not in FEWEST)))

    return SearchSpace(tuple(map(more, space.genes)))


def without(space: SearchSpace) -> SearchSpace:
    """The space without two and three bits."""
    genes = (
        replace(gene, choices=tuple(c for c in gene.choices if c not in FEWEST))
        if gene.kind == "precision" else gene
        for gene in space.genes
    )  # fmt: skip
    return SearchSpace(tuple(genes))


class ForeseenLatency:
    """Latencies by regression on the structure of what a run measured, INT4 to INT2 as INT8, whose
    weights they are once a session has loaded."""

    def __init__(self, session: RunSession) -> None:
        builder = session.builder
        self.space, self.measured = builder.space, session.latency
        self.structure = StructureFeatures(builder.space, builder.cost)
        known = [e for e in session.ledger.evaluations() if e.failure is None and not e.disturbed]
        known = [e for e in known if self.space.holds(self.computed(e.candidate).values)]
        times = np.array([e.metrics["latency_ms"] for e in known])
        features = np.concatenate([self.features(self.computed(e.candidate)) for e in known])
        self.fitted = Scaled(Ridge()).fit(features, times)

    def computed(self, candidate: Candidate) -> Candidate:
        """What takes as long."""
        policy = {
            layer: INT8 if entry.integer else entry for layer, entry in candidate.policy.items()
        }
        return replace(candidate, policy=QuantPolicy(policy))

    def features(self, candidate: Candidate) -> FloatArray:
        """One row."""
        return self.structure.features(candidate.genome(self.space)[None])

    def begin(self, built: BuiltCandidate) -> Callable[[], MeasuredLatency]:
        """See `LatencyMeter`; a reference that the space has not is measured."""
        same = self.computed(built.candidate)
        if not self.space.holds(same.values):
            return self.measured.begin(built)
        (time,) = self.fitted.predict(self.features(same))
        found = Latency(float(time), float(time), float(time), 0)
        return lambda: MeasuredLatency(found, {"latency": "foreseen"})

    def alternate(
        self, models: Mapping[str, Path], inputs: Mapping[str, Arrays], repeats: int
    ) -> Rounds:
        """See `LatencyMeter`; written models are measured."""
        return self.measured.alternate(models, inputs, repeats)


@dataclass(frozen=True)
class Comparison:
    """Both searches of one run's super-network. out: where they are kept, to be continued."""

    session: RunSession
    evaluator: Evaluator
    out: Path
    evaluations: int

    @classmethod
    def of(
        cls, run: RunFolder, out: Path, evaluations: int, foreseen: bool, reporter: Reporter
    ) -> Comparison:
        """From a run folder."""
        experiment = read_experiment(run)
        data = load_data(experiment.data, experiment.model, experiment.task)
        session = RunSession.prepare(experiment, run, data, reporter)
        meter: LatencyMeter = ForeseenLatency(session) if foreseen else session.latency
        evaluator = replace(session.evaluator, latency=meter)
        return cls(session, evaluator, out / run.path.name, evaluations)

    def session_of(self, seed: int) -> RunSession:
        """Of that seed, without polish."""
        changes = {
            "seed": seed, "objectives": OBJECTIVES, "polish": None, "trials": False,
            "constraints": (f"accuracy >= int8 - {DROP}",),
        }  # fmt: skip
        return replace(self.session, experiment=self.session.experiment.model_copy(update=changes))

    def volumes(self, seed: int) -> dict[str, float]:
        """Shares of the hypervolume of both together."""
        session, costs = self.session_of(seed), {}
        experiment = session.experiment
        for name, change in {"without": without, "with": with_fewer_bits}.items():
            place = RunFolder(self.out / f"seed-{seed}" / name)
            found = explore(
                session, place, change(session.builder.space), self.evaluations, self.evaluator
            )
            costs[name] = costs_of(searched(found), experiment)
        box = bound(experiment, found, low_reference(session.references))
        whole = hypervolume(np.concatenate(list(costs.values())), box) or np.inf
        return {name: hypervolume(values, box) / whole for name, values in costs.items()}

    def rows(self, seeds: Sequence[int]) -> Iterator[tuple[str, ...]]:
        """One line a seed."""
        for seed in seeds:
            found = self.volumes(seed)
            shares = (f"{found[name]:.3f}" for name in ("without", "with"))
            yield self.out.name, str(seed), *shares


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--evaluations", type=int, default=40)
    parser.add_argument("--foreseen", action="store_true", help="latencies by regression")
    given = parser.parse_args()
    found: list[tuple[str, ...]] = []
    with rich_reporter(Console(stderr=True)) as reporter:
        for run in given.runs:
            folder, n = RunFolder(run), given.evaluations
            comparison = Comparison.of(folder, given.out, n, given.foreseen, reporter)
            found += comparison.rows(given.seeds)
    head = ("network", "seed", "without", "with int2 and int3")
    print("\n".join(markdown_table(head, found)))


if __name__ == "__main__":
    main()
