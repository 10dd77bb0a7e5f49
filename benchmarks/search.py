"""Compare search strategies on surfaces whose true Pareto front is known.

    python -m benchmarks.search run --cache DIR [--surface NAME] [--method NAME] [--seeds 10]
    python -m benchmarks.search table --cache DIR
    python -m benchmarks.search predictors [--seeds 10]
    python -m benchmarks.search speed

NAS-Bench-Macro takes part where `--macro` gives its file nas-bench-macro_cifar10.json.
`run` stores the genomes each run measured, in order, and skips runs already stored; `table` prints
the Markdown tables of benchmarks/README.md. `predictors` judges the default predictors on
candidates they have not seen.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import kendalltau
from sklearn.base import clone

from benchmarks.surfaces import (
    Surface,
    digits_latency,
    digits_small,
    nas_bench_macro,
    synthetic,
)
from nas.delivery.markdown import markdown_table
from nas.experiment.objectives import FloatArray
from nas.experiment.search_settings import SearchSettings
from nas.search.pareto import hypervolume
from nas.search.problem import History, enumerate_space, new_rows, sample_new
from nas.search.pymoo_operators import evolve
from nas.search.strategy import make_strategy
from nas.search.surrogate import Surrogate
from predictors.estimators import ESTIMATORS
from supernets.space.space import Genomes

BUDGETS = (25, 50, 100, 200, 400)
DIGITS = Path(__file__).parent / "digits_small.npz"
Surfaces = dict[str, Callable[[], Surface]]
METHODS: dict[str, dict[str, object]] = {
    "random": {"strategy": "random"},
    "pymoo NSGA-II": {"strategy": "nsga2"},
    "Optuna NSGA-II": {"strategy": "optuna-nsga2"},
    "Optuna TPE": {"strategy": "optuna-tpe"},
    "plain LINAS": {"strategy": "linas", "acquisition": "rank"},
    "ours": {"strategy": "linas"},
}


def known_surfaces(macro: Path | None) -> Surfaces:
    """What can be searched; NAS-Bench-Macro only where its file is given."""
    found: Surfaces = {"digits": lambda: digits_small(DIGITS), "synthetic": synthetic}
    if macro is None:
        print("nas-bench-macro is left out: --macro does not say where its file is")
    else:
        found["nas-bench-macro"] = lambda: nas_bench_macro(macro)
    return found


def search(surface: Surface, settings: SearchSettings, seed: int) -> Genomes:
    """The genomes one run measures, in order, `(evaluations, n_genes)`."""
    noise = np.random.default_rng([seed, 1])
    strategy = make_strategy(surface.problem, settings, seed)
    history = History.empty(surface.problem)
    while len(history) < settings.evaluations:
        n = min(settings.round_size, settings.evaluations - len(history))
        genomes = strategy.propose(history, n)
        history = history.append(genomes, surface.measure(genomes, noise))
    return history.genomes


def curve(surface: Surface, genomes: Genomes) -> FloatArray:
    """Share of the true hypervolume after 1, 2, ... evaluations."""
    costs = surface.problem.costs(surface.truth(genomes))
    whole = hypervolume(surface.front, surface.reference)
    volumes = [hypervolume(costs[: k + 1], surface.reference) for k in range(len(costs))]
    return np.array(volumes) / whole


def stored(cache: Path, surface: str, method: str, seed: int) -> Path:
    """Where a run's genomes are kept."""
    return cache / f"{surface}--{method.replace(' ', '_')}--{seed}.npy"


def run(cache: Path, surfaces: Surfaces, methods: list[str], seeds: range) -> None:
    """Run what is not stored yet."""
    cache.mkdir(parents=True, exist_ok=True)
    for name, make in surfaces.items():
        surface = make()
        for seed in seeds:
            for method in methods:
                path = stored(cache, name, method, seed)
                if path.exists():
                    continue
                began = time.perf_counter()
                settings = SearchSettings(evaluations=BUDGETS[-1], **METHODS[method])
                genomes = search(surface, settings, seed)
                np.save(path, genomes.astype(np.int8))
                shares = curve(surface, genomes)[np.array(BUDGETS) - 1]
                print(
                    f"{name:16} {method:15} seed {seed} "
                    + " ".join(f"{share:.4f}" for share in shares)
                    + f"  {time.perf_counter() - began:.0f} s",
                    flush=True,
                )


def table(cache: Path, surfaces: Surfaces) -> str:
    """Median (quartiles) of the share of the true hypervolume, in percent, per stored surface."""
    parts = []
    for name, make in surfaces.items():
        runs = {method: _stored_runs(cache, name, method) for method in METHODS}
        if any(runs.values()):
            surface = make()
            curves = {
                method: np.stack([curve(surface, genomes) for genomes in found])
                for method, found in runs.items()
                if found
            }
            parts.append(_surface_table(name, curves))
    return "\n\n".join(parts)


def _stored_runs(cache: Path, surface: str, method: str) -> list[Genomes]:
    pattern = stored(cache, surface, method, 0).name.replace("--0.", "--*.")
    return [np.load(path).astype(np.int64) for path in sorted(cache.glob(pattern))]


def _surface_table(name: str, curves: dict[str, FloatArray]) -> str:
    final = np.median(curves["pymoo NSGA-II"][:, -1]) if "pymoo NSGA-II" in curves else np.inf
    columns = ["method", "seeds", *map(str, BUDGETS), "to NSGA-II's end", "to 99 %"]
    rows = []
    for method, shares in curves.items():
        cells = [method, str(len(shares))]
        for budget in BUDGETS:
            low, middle, high = 100 * np.percentile(shares[:, budget - 1], (25, 50, 75))
            cells.append(f"{middle:.2f} ({low:.2f}-{high:.2f})")
        rows.append([*cells, _reached(shares, final), _reached(shares, 0.99)])
    return "\n".join([f"**{name}**", "", *markdown_table(columns, rows)])


def _reached(shares: FloatArray, level: float) -> str:
    """Median number of evaluations after which the share is at least `level`."""
    never = shares.shape[1] + 1
    firsts = [int(np.argmax(s >= level)) + 1 if (s >= level).any() else never for s in shares]
    middle = float(np.median(firsts))
    return f"{middle:.0f}" if middle < never else "-"


@dataclass(frozen=True)
class Target:
    """A metric to predict after so many measurements, and the Kendall tau asked for."""

    surface: str
    metric: str
    measured: int
    tau: float


TARGETS = (
    Target("digits", "latency_ms", 100, 0.95),
    Target("synthetic", "latency_ms", 100, 0.95),
    Target("digits", "accuracy", 200, 0.80),
    Target("nas-bench-macro", "accuracy", 200, 0.80),
    Target("synthetic", "accuracy", 200, 0.80),
)


def predictors(surfaces: Surfaces, seeds: range, most: int = 1000) -> str:
    """Kendall tau of predictions and true values of unseen candidates, median (quartiles)."""
    surfaces = {**surfaces, "digits": lambda: digits_latency(DIGITS)}
    lines = [
        "| surface | metric | measured | tau | asked | MACs and bytes alone | yardstick | chosen |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for target in TARGETS:
        if target.surface not in surfaces:
            continue
        surface = surfaces[target.surface]()
        column = surface.problem.column(target.metric)
        taus, baselines, chosen = [], [], Counter[str]()
        for seed in seeds:
            rng = np.random.default_rng([seed, 2])
            history = _measured(surface, target.measured, seed, rng)
            unseen = _unseen(surface, history.genomes, most, rng)
            predictor = Surrogate.fit(surface.problem, history, seed)
            true = surface.truth(unseen)[:, column]
            taus.append(_tau(true, predictor.values(unseen)[:, column]))
            chosen[predictor.predictors[target.metric].judgement.name] += 1
            if (cheap := surface.problem.cheap) is not None:
                line = clone(ESTIMATORS["ridge"]).fit(
                    cheap(history.genomes), history.values[:, column]
                )
                baselines.append(_tau(true, line.predict(cheap(unseen))))
        low, middle, high = np.percentile(taus, (25, 50, 75))
        lines.append(
            f"| {surface.name} | {target.metric} | {target.measured} "
            f"| {middle:.3f} ({low:.3f}-{high:.3f}) | {target.tau:.2f} "
            f"| {f'{np.median(baselines):.3f}' if baselines else '-'} "
            f"| {_yardstick(surface, column):.3f} "
            f"| {', '.join(f'{name} {n}x' for name, n in chosen.most_common())} |"
        )
    return "\n".join(lines)


def _measured(surface: Surface, n: int, seed: int, rng: np.random.Generator) -> History:
    """The default strategy's first round, then random candidates."""
    settings, problem = SearchSettings(), surface.problem
    empty = History.empty(problem)
    first = make_strategy(problem, settings, seed).propose(empty, settings.round_size)
    rest = sample_new(problem.space, n - len(first), first, rng)
    genomes = np.concatenate([first, rest])
    return empty.append(genomes, surface.measure(genomes, rng))


def _unseen(surface: Surface, known: Genomes, most: int, rng: np.random.Generator) -> Genomes:
    """All the rest of a small space, else `most` random candidates."""
    everything = enumerate_space(surface.problem.space)
    if everything is not None:
        return new_rows(everything, known)
    return sample_new(surface.problem.space, most, known, rng)


def _yardstick(surface: Surface, column: int) -> float:
    """Tau of one noisy measurement and the truth.

    Where the one measurement is the truth: tau of predictions by two thirds of the whole table.
    """
    rng, problem = np.random.default_rng(0), surface.problem
    genomes = _unseen(surface, problem.space.sample(0, rng), 2000, rng)
    true, again = surface.truth(genomes)[:, column], surface.measure(genomes, rng)[:, column]
    if not np.array_equal(true, again):
        return _tau(true, again)
    history = History.empty(problem).append(genomes, surface.truth(genomes))
    whole = Surrogate.fit(problem, history, 0)
    return whole.predictors[problem.metrics[column].name].judgement.score.kendall_tau


def _tau(true: FloatArray, predicted: FloatArray) -> float:
    return float(kendalltau(true, predicted).statistic)


def speed(measured: int = 200, population: int = 100, generations: int = 200) -> str:
    """Seconds for 20,000 predicted evaluations of the 110-gene space, predictors included."""
    surface, rng = synthetic(), np.random.default_rng(0)
    space = surface.problem.space
    genomes = sample_new(space, measured, space.sample(0, rng), rng)
    history = History.empty(surface.problem).append(genomes, surface.measure(genomes, rng))
    surrogate = Surrogate.fit(surface.problem, history, 0, ["gp-warped"])  # slowest to predict with
    start, began = space.sample(population, rng), time.process_time()
    evolve(space, surrogate.score, start, generations, seed=0)
    seconds = time.process_time() - began  # of one core, whatever else the machine does
    return f"{population * generations} predicted evaluations, {measured} measured: {seconds:.2f} s"


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=("run", "table", "predictors", "speed"))
    parser.add_argument(
        "--cache", type=Path, default=Path("search-cache"), help="folder for finished runs"
    )
    parser.add_argument("--macro", type=Path, help="file of NAS-Bench-Macro")
    parser.add_argument("--surface", action="append", help="default: all that are known")
    parser.add_argument("--method", choices=METHODS, action="append")
    parser.add_argument("--seeds", type=int, default=10)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", category=UserWarning)
    surfaces, seeds = known_surfaces(arguments.macro), range(arguments.seeds)
    if unknown := set(arguments.surface or ()) - set(surfaces):
        parser.error(f"--surface {', '.join(sorted(unknown))}: must be of {', '.join(surfaces)}")
    surfaces = {name: surfaces[name] for name in arguments.surface or surfaces}
    if arguments.command == "run":
        run(arguments.cache, surfaces, arguments.method or list(METHODS), seeds)
    elif arguments.command == "table":
        print(table(arguments.cache, surfaces))
    elif arguments.command == "predictors":
        print(predictors(surfaces, seeds))
    else:
        print(speed())


if __name__ == "__main__":
    main()
