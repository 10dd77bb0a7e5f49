"""What two and three bits are worth in a search: with them in the space and without.

    python -m benchmarks.few_bits_search RUN [RUN ...] --out DIR [--seeds 0 1 2] [--evaluations 40]

RUN is a run folder with a tuned super-network. Its space is searched with the formats it has, and
with INT2 and INT3 for every layer besides; equally many measurements, no polish. Printed is the
hypervolume of accuracy, latency and size, of models better than the INT8 reference and at most so
much less accurate as the run's constraint allows, over that of both searches together.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from rich.console import Console

from benchmarks.headline import bound, explore
from hardware.formats.int2 import INT2
from hardware.formats.int3 import INT3
from hardware.formats.int8 import INT8
from nas.delivery.markdown import markdown_table
from nas.delivery.selection import costs_of
from nas.evaluation.baselines import low_reference
from nas.evaluation.record import searched
from nas.run.progress import Reporter, rich_reporter
from nas.run.run_folder import RunFolder
from nas.run.saved_experiment import read_experiment
from nas.run_session import RunSession
from nas.search.pareto import hypervolume
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


@dataclass(frozen=True)
class Comparison:
    """Both searches of one run's super-network. out: where they are kept, to be continued."""

    session: RunSession
    out: Path
    evaluations: int

    @classmethod
    def of(cls, run: RunFolder, out: Path, evaluations: int, reporter: Reporter) -> Comparison:
        """From a run folder."""
        experiment = read_experiment(run)
        data = load_data(experiment.data, experiment.model, experiment.task)
        session = RunSession.prepare(experiment, run, data, reporter)
        return cls(session, out / run.path.name, evaluations)

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
            found = explore(session, place, change(session.builder.space), self.evaluations)
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
    given = parser.parse_args()
    found: list[tuple[str, ...]] = []
    with rich_reporter(Console(stderr=True)) as reporter:
        for run in given.runs:
            comparison = Comparison.of(RunFolder(run), given.out, given.evaluations, reporter)
            found += comparison.rows(given.seeds)
    head = ("network", "seed", "without", "with int2 and int3")
    print("\n".join(markdown_table(head, found)))


if __name__ == "__main__":
    main()
