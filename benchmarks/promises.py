"""Whether what is promised of models on validation holds on test, over many splits.

    python -m benchmarks.promises FOLDER [--tasks digits pydoc] [--candidates 100] [--splits 400]

Trains one super-network per task and asks many of its sub-networks about all samples of validation
and test, once. Each split then deals these samples anew, and chooses and judges as a run does
without polish: that is exact for the statistics, as no sample was trained on.
FOLDER keeps the answers, and the next call goes on with them.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from hardware.formats.int8 import INT8
from hardware.formats.policy import QuantPolicy
from nas.delivery.offers import offers
from nas.delivery.promise import NEEDS, Need, Promise, allowed_drops, in_words
from nas.delivery.results import ValidatedModel
from nas.evaluation.baselines import reference_candidates
from nas.evaluation.candidate import Candidate
from nas.evaluation.score_meter import RuntimeScore
from nas.experiment.objectives import FloatArray
from nas.experiment.schema import Experiment
from nas.pipeline import tune
from nas.run.progress import Reporter, rich_reporter
from nas.run.run_folder import RunFolder
from supernets.data.kept_back import kept_rows
from supernets.metrics.classes import ACCURACY
from supernets.metrics.paired import Comparison
from supernets.open_data import load_data
from supernets.space.space import Genomes, SearchSpace

Bools = NDArray[np.bool_]
NO_LOSS = 0.005
UNCHOSEN = 4
"""Models of a task that are looked at without choosing."""
MODELS = 8
"""Delivered by a run that does not say otherwise."""
TASKS: dict[str, dict[str, Any]] = {
    "digits": {
        "model": {
            "vit": {"image_size": 16, "patch_size": 4, "embed_dim": 32, "depth": 3, "num_heads": 4,
                    "hidden_dim": 64},
            "training": {"epochs": 15, "batch_size": 64, "learning_rate": 0.003},
        },
        "data": {"name": "digits", "kept_back": 0},
        "space": {"depth": [1, 2, 3], "num_heads": [2, 4], "hidden_dim": [32, 64],
                  "precision": {"*": ["int4", "int8"]}},
        "tune": {"epochs": 8, "batch_size": 64, "learning_rate": 0.001},
    },
    "pydoc": {
        "model": {
            "bert": {"vocab_size": 2048, "max_positions": 48, "embed_dim": 48, "depth": 3,
                     "num_heads": 4, "hidden_dim": 96},
            "training": {"epochs": 4, "batch_size": 64, "learning_rate": 0.002},
        },
        "data": {"name": "pydoc", "kept_back": 0, "max_train": 6000, "max_validation": 1000,
                 "max_test": 1000},
        "space": {"depth": [1, 2, 3], "num_heads": [1, 2, 4], "hidden_dim": [32, 64, 96],
                  "precision": {"*": ["int4", "int8"]}},
        "tune": {"epochs": 2, "batch_size": 64, "learning_rate": 0.001},
    },
}  # fmt: skip


@dataclass(frozen=True)
class Answers:
    """What candidates of one super-network are right about, the INT8 reference first.

    right: `(n_candidates, n_samples)`. classes: of the samples. latency, size: stand-ins that order
    them. validation: samples that a run would have for it, of all.
    """

    right: Bools
    classes: NDArray[np.int64]
    latency: FloatArray
    size: FloatArray
    validation: int


class Outcome(NamedTuple):
    """What was promised on one split, and what test found; differences from INT8, row 0."""

    need: Need
    row: int
    expected: float
    found: float
    inside: bool
    raw: float


def near_and_far(space: SearchSpace, n: int, rng: np.random.Generator) -> Genomes:
    """Half at random, half the largest with few genes changed, as a search ends with: distinct."""
    far = space.sample(n, rng)
    change = rng.random(far.shape) < 0.25
    near = space.canonical(np.where(change, far, space.largest()))
    return np.unique(np.concatenate([near[: n // 2], far]), axis=0)[rng.permutation(n)]


def ask(name: str, folder: Path, candidates: int, reporter: Reporter) -> Answers:
    """Train the task's super-network and ask its candidates, unless the folder has the answers."""
    file = folder / f"{name}.npz"
    if file.exists():
        with np.load(file) as kept:
            arrays = {key: kept[key] for key in ("right", "classes", "latency", "size")}
            return Answers(**arrays, validation=int(kept["validation"]))
    experiment = Experiment.model_validate({"name": name, "polish": None, **TASKS[name]})
    data = load_data(experiment.data, experiment.model, experiment.task)
    run = RunFolder(folder / name)
    run.path.mkdir(parents=True, exist_ok=True)
    session = tune(experiment, run, data, reporter)
    builder, space = session.builder, session.builder.space
    genomes = near_and_far(space, candidates, np.random.default_rng(0))
    asked = [reference_candidates(builder)["int8"]]
    asked += [Candidate.from_genome(space, genome) for genome in genomes]
    stage, right, sizes = reporter.stage("asking"), [], []
    for number, candidate in enumerate(asked):
        built = builder.build(candidate)
        sizes.append(float(len(built.content)))
        found = [RuntimeScore(builder, s).predictions(built) for s in (data.validation, data.test)]
        outputs, classes = (found[0] + found[1]).rows
        right.append(np.asarray(outputs).argmax(axis=1) == np.asarray(classes))
        stage.update(number + 1, len(asked))
    macs = [builder.costs(c, size)["macs"] for c, size in zip(asked, sizes, strict=True)]
    answers = Answers(
        np.array(right), np.asarray(classes), np.array(macs), np.array(sizes),
        len(data.validation),
    )  # fmt: skip
    np.savez_compressed(file, **vars(answers))
    return answers


def deal(answers: Answers, part: float, seed: int) -> Iterator[Outcome]:
    """Split the samples anew, choose and judge, and look at test.

    part: of validation that is kept back from choosing.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(answers.classes))
    whole, test = order[: answers.validation], order[answers.validation :]
    kept = whole[kept_rows(answers.classes[whole], part)]
    seen = np.setdiff1d(whole, kept)
    right, low = answers.right, answers.right[0]
    score = right[:, seen].mean(axis=1)
    models = []
    for row in (0, *chosen(answers, score)):
        judged = Comparison.of_shares(right[row, kept], low[kept]) if len(kept) else None
        together = Comparison.of_shares(right[row, seen], low[seen])
        promise = Promise.of(together, judged, len(test))
        models.append(delivered(answers, row, float(score[row]), promise))
    found = right[:, test].mean(axis=1) - low[test].mean()
    for offer in offers(models, ACCURACY, models[0], NO_LOSS):
        row, promise = int(offer.model), offer.promise
        inside = promise.expected_low <= found[row] <= promise.expected_high
        raw = score[row] - score[0]
        yield Outcome(offer.need, row, promise.expected, found[row], inside, raw)


def chosen(answers: Answers, believed: FloatArray) -> list[int]:
    """Candidates to deliver: the best for every need, then the best of others by what they cost."""
    rows = np.arange(1, len(believed))
    picked: list[int] = []
    for need, drop in allowed_drops(ACCURACY, believed[0], NO_LOSS).items():
        good = rows[believed[rows] >= believed[0] - drop]
        cost = answers.size if need == "smallest_at_2_points" else answers.latency
        picked += [int(row) for row in good[np.lexsort((-believed[good], cost[good]))][:1]]
    accurate = rows[np.argsort(-believed[rows], kind="stable")]
    return list(dict.fromkeys([*picked, *map(int, accurate)]))[:MODELS]


def delivered(answers: Answers, row: int, score: float, promise: Promise) -> ValidatedModel:
    """A candidate as a delivered model, named by its row."""
    latency, nothing = float(answers.latency[row]), Candidate((), QuantPolicy({"head": INT8}))
    return ValidatedModel(
        str(row), "front", nothing, score, None, (latency,) * 3, int(answers.size[row]), "", {},
        promise=promise,
    )  # fmt: skip


COLUMNS = ("task", "kept back", "need", "not INT8 itself", "promise - test", "raw - test",
           "promise - test, not INT8", "inside 95 %", "inside, not INT8")  # fmt: skip


def table(task: str, answers: Answers, parts: Sequence[float], splits: int) -> list[list[str]]:
    """Rows under `COLUMNS`; differences in points."""
    rows = []
    for part in parts:
        dealt = [outcome for seed in range(splits) for outcome in deal(answers, part, seed)]
        for need in NEEDS:
            own = [outcome for outcome in dealt if outcome.need == need]
            gaps = 100 * np.array([o.expected - o.found for o in own])
            models = [o for o in own if o.row]
            raw = 100 * np.array([o.raw - o.found for o in own])
            apart = (
                f"{100 * np.mean([o.expected - o.found for o in models]):+.2f}" if models else "-"
            )
            rows.append([
                task, f"{part:g}", in_words(need), f"{100 * len(models) / len(own):.0f} %",
                f"{gaps.mean():+.2f} +- {gaps.std() / len(own) ** 0.5:.2f}", f"{raw.mean():+.2f}",
                apart, _inside(own), _inside(models),
            ])  # fmt: skip
    return rows


def _inside(outcomes: Sequence[Outcome]) -> str:
    return f"{100 * np.mean([o.inside for o in outcomes]):.0f} %" if outcomes else "-"


def inside_unchosen(answers: Answers, part: float, splits: int) -> float:
    """Part of the cases in which test is inside the interval of models that nothing chose.

    So is told what of the cover is the interval's own and what comes of choosing.
    """
    every, inside = max(1, len(answers.right) // UNCHOSEN), []
    for seed in range(splits):
        order = np.random.default_rng(seed).permutation(len(answers.classes))
        whole, test = order[: answers.validation], order[answers.validation :]
        kept = whole[kept_rows(answers.classes[whole], part)]
        right, low = answers.right[1::every], answers.right[0]
        for own in right:
            least, most = Comparison.of_shares(own[kept], low[kept]).expected_on(len(test))
            inside.append(least <= own[test].mean() - low[test].mean() <= most)
    return float(np.mean(inside))


def main() -> None:
    """Read the command line, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="keeps super-networks and answers")
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--candidates", type=int, default=100, help="asked per task")
    parser.add_argument("--splits", type=int, default=400, help="dealt per task and part")
    parser.add_argument("--kept-back", nargs="+", type=float, default=[0.0, 0.3])
    given, console = parser.parse_args(), Console(stderr=True)
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
    for task in given.tasks:
        with rich_reporter(console) as reporter:
            answers = ask(task, given.folder, given.candidates, reporter)
        for row in table(task, answers, given.kept_back, given.splits):
            print(f"| {' | '.join(row)} |")
        for part in filter(None, given.kept_back):
            share = inside_unchosen(answers, part, given.splits)
            console.print(f"{task}: of models that nothing chose {100 * share:.1f} % are inside")


if __name__ == "__main__":
    main()
