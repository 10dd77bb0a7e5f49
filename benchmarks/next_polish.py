"""How good the choice of what is polished is, on the candidates of a finished run.

    python -m benchmarks.next_polish RUN [RUN ...] [--models 2 3 5] [--draws 100]

The run's metric is accuracy. Polishing is simulated: of what a candidate lacks beside the full
network comes back a part drawn anew for every draw from 0.5 to 1, less what it lacks (a network
that lacks 20 points gets 0.2 less of it), give or take half a point. Printed: by how much the
fastest of the polished models at no loss, within 1 point and at 2 points beats INT8, geometric
means over the draws (1 where none is faster), and in how many draws there is none at no loss.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nas.delivery.choice import Choice
from nas.delivery.promise import allowed_drops
from nas.evaluation.baselines import low_reference, measured_references
from nas.evaluation.record import Evaluation, searched
from nas.experiment.given import with_values
from nas.experiment.schema import Experiment
from nas.ledger.study import read_evaluations
from nas.run.run_folder import RunFolder
from nas.run.saved_experiment import read_experiment
from nas.training.polish_forecast import Polished, PolishForecast, few_bits

PARTS = (0.5, 1.0)
LOST, NOISE = 0.002, 0.005
"""Of accuracy: what polishing takes from all, and how far single models lie from the rest."""


class Quiet:
    """A reporter that says nothing."""

    def say(self, message: str) -> None:
        """Nothing."""


@dataclass
class Simulated:
    """Polishes by drawing what comes of it; `forecast` and `train` as of a FineTuner."""

    experiment: Experiment
    full: float
    part: float
    rng: np.random.Generator
    known: dict[str, Polished] = field(default_factory=dict)

    @property
    def forecast(self) -> PolishForecast:
        """By what was polished, from none at all."""
        return PolishForecast(self.experiment.quality, self.full, dict(self.known), least=0)

    def train(self, evaluations: Sequence[Evaluation], later: int) -> None:
        """Draw what becomes of them."""
        for found in evaluations:
            before = found.metrics[self.experiment.quality.name]
            lacking = self.full - before
            after = before - LOST + (self.part - np.clip(lacking, 0, 0.4)) * lacking
            after += NOISE * self.rng.standard_normal()
            self.known[found.candidate.key] = Polished(before, after, few_bits(found.candidate))


def reached(
    known: Sequence[Evaluation], experiment: Experiment, rng: np.random.Generator
) -> list[float]:
    """Speed over INT8 of the fastest polished model for the first three needs, NaN without one."""
    references = measured_references(known)
    low = references[low_reference(references)]
    name = experiment.quality.name
    full = references["fp32"].metrics[name]
    polisher: Any = Simulated(experiment, full, rng.uniform(*PARTS), rng)
    reporter: Any = Quiet()
    Choice(known, experiment, True, reporter, polisher).picks()
    latencies = {e.candidate.key: e.metrics["latency_ms"] for e in searched(known)}
    bar = low.metrics[name]
    drops = allowed_drops(experiment.quality, bar, experiment.export.accuracy_drop)
    found = []
    for need in ("no_loss", "within_1_point", "fastest_at_2_points"):
        good = [k for k, row in polisher.known.items() if row.after >= bar - drops[need]]
        found.append(max((low.metrics["latency_ms"] / latencies[k] for k in good), default=np.nan))
    return found


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--models", nargs="+", type=int, default=[2, 3, 5])
    parser.add_argument("--draws", type=int, default=100)
    given = parser.parse_args()
    print("| run | models | no loss | within 1 point | at 2 points | none at no loss |")
    print("|---|---|---|---|---|---|")
    for path in given.runs:
        folder = RunFolder(path)
        experiment = read_experiment(folder)
        known = read_evaluations(experiment, folder)
        for models in given.models:
            asked = with_values(experiment, {"export.models": models})
            draws = [
                reached(known, asked, np.random.default_rng(seed)) for seed in range(given.draws)
            ]
            speeds = np.array(draws)
            means = np.exp(np.log(np.fmax(speeds, 1.0)).mean(axis=0))
            shown = " | ".join(f"{mean:.2f}x" for mean in means)
            none = np.isnan(speeds[:, 0]).mean()
            print(f"| {path.name} | {models} | {shown} | {none:.0%} |", flush=True)


if __name__ == "__main__":
    main()
