"""The paper's claim on real data: joint search against plain fine-tuning and INT8 throughout.

    python -m benchmarks.headline run TASK --data FOLDER [--checkpoint FOLDER] --out DIR
                                  [--seeds 0 1 2] [--strategies]
    python -m benchmarks.headline table [--out DIR]

TASK is a file of benchmarks/headline/ without its ending. `run` goes on where it was stopped, and
writes DIR/TASK/seed-N/result.json; with `--strategies` it also compares the joint search with
sequential and policy-only ones after equally many measurements. `table` adds what is there to
benchmarks/headline/results/, and writes tables and plots of all of it into benchmarks/README.md and
benchmarks/headline/.

A network that is trained from scratch first is trained once, for all seeds. The baseline starts
from the same weights, is trained plainly for as many epochs over the data as the super-network, and
is quantized by ONNX Runtime's own tools: dynamic per-channel INT8 for transformers, static QDQ
calibrated on training samples where there are convolutions.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process
from rich.console import Console

from benchmarks.headline_table import write_tables
from benchmarks.low_precision import export_anew
from hardware.latency import run_times
from hardware.session import open_session
from nas.delivery.results import Front, read_front
from nas.delivery.selection import costs_of, resolved_constraints
from nas.evaluation.baselines import PLAIN, low_reference, measured_references
from nas.evaluation.evaluator import Evaluator
from nas.evaluation.record import Evaluation, searched
from nas.evaluation.score_meter import RuntimeScore
from nas.experiment.load import load_experiment
from nas.experiment.objectives import FloatArray, parse_constraint
from nas.experiment.schema import Experiment
from nas.ledger.study import open_ledger
from nas.pipeline import run as run_experiment
from nas.reporting.halves import halves
from nas.run.progress import Reporter, rich_reporter
from nas.run.run_folder import RunFolder, read_json, write_json
from nas.run.saved_experiment import read_experiment
from nas.run_session import RunSession
from nas.search.pareto import front, hypervolume
from nas.search_loop import SearchLoop
from nas.training.train_supernet import read_network, resumable
from nas.workers.executors import InProcess
from supernets.data.data import Split, TaskData, calibration_batches
from supernets.families.super_network import WEIGHTS_FILE, SuperNetwork
from supernets.load import load_data, load_supernet
from supernets.metrics.classes import ACCURACY
from supernets.settings import TrainSettings
from supernets.space.space import Choice, SearchSpace
from supernets.training.train import Trainer

TASKS = Path(__file__).parent / "headline"
RESULTS = TASKS / "results"
LATENCY_REPEATS = 300
STRATEGY_EVALUATIONS = 40
"""Measurements of each way of searching."""


@dataclass(frozen=True)
class Trial:
    """One task under one seed."""

    experiment: Experiment
    folder: Path
    data: TaskData
    reporter: Reporter

    @property
    def run(self) -> RunFolder:
        """The folder of `simqnas run`."""
        return RunFolder(self.folder / "run")

    def result(self, strategies: bool) -> dict[str, Any]:
        """Everything the tables show."""
        found = run_experiment(self.experiment, self.run, self.reporter)
        began = time.time()
        return replace(self, experiment=read_experiment(self.run))._compared(
            found, strategies, began
        )

    def _compared(self, found: Front, strategies: bool, began: float) -> dict[str, Any]:
        """The same of a run that is over, whose experiment leaves nothing open."""
        session = RunSession.prepare(self.experiment, self.run, self.data, self.reporter)
        baseline = self._baseline()
        measured = self._side_by_side(session, found, baseline)
        return {
            "task": self.folder.parent.name,
            "seed": self.experiment.seed,
            "samples": {"test": len(self.data.test), "train": len(self.data.train)},
            "conditions": {
                **session.builder.target.describe(),
                "torch": torch.__version__,
                "commit": commit(),
            },
            "strategies": self._strategies(session) if strategies else {},
            **measured,
            "seconds": self._seconds(time.time() - began),
        }

    def _seconds(self, latest: float) -> float:
        """Wall time of the run, all its starts together, and of what it was compared in since."""
        return float(read_json(self.run.pace)["spent_s"] + latest)

    def fine_tuned(self) -> SuperNetwork:
        """The network the super-network started from, trained plainly for as long."""
        place = self.folder / "plain"
        if not (place / WEIGHTS_FILE).exists():
            experiment, seed = self.experiment, self.experiment.seed
            start = self.run.trained
            if (start / WEIGHTS_FILE).exists():
                network = read_network(start)
            else:
                network = load_supernet(experiment.model, self.data, seed).network
            shared = experiment.tune.model_dump(include=set(TrainSettings.model_fields))
            trainer = Trainer(network, self.data.train, TrainSettings(**shared), seed)
            place.mkdir(parents=True, exist_ok=True)
            with resumable(trainer, "plain fine-tuning", RunFolder(place), self.reporter):
                network.save(place, network.space(experiment.space))
        return read_network(place)

    def _baseline(self) -> dict[str, Path]:
        """FP32 and INT8 files of the plainly fine-tuned network."""
        files = {name: self.folder / f"baseline-{name}.onnx" for name in ("fp32", "int8")}
        if not files["int8"].exists():
            network = self.fine_tuned()
            export(network, files["fp32"])
            part = files["int8"].with_suffix(".part")
            if network.config.family == "resnet":
                quantize_convolutions(files["fp32"], part, self.data.train)
            else:
                quantize_dynamic(files["fp32"], part, per_channel=True, weight_type=QuantType.QInt8)
            part.replace(files["int8"])
        return files

    def _side_by_side(
        self, session: RunSession, found: Front, files: dict[str, Path]
    ) -> dict[str, Any]:
        """Baseline and models on the test split, and all of them timed alternately."""
        bench, full = session.builder, session.references[PLAIN]
        target = bench.target
        paths, inputs = dict(files), dict.fromkeys(files, bench.example(full))
        accuracies = {
            name: RuntimeScore(bench, self.data.test)
            .of_session(open_session(path, target), full)
            .score(ACCURACY)
            for name, path in files.items()
        }
        for model in found.models:
            name = f"ours {model.name}" if model.role == "reference" else model.name
            paths[name] = self.run.model(model.name) / "model.onnx"
            inputs[name] = bench.example(model.candidate)
            assert model.test_score is not None
            accuracies[name] = model.test_score
        sessions = {name: open_session(path, target) for name, path in paths.items()}
        rounds = run_times(sessions, inputs, repeats=LATENCY_REPEATS)
        rows = []
        for name, path in paths.items():
            rng = np.random.default_rng(0)
            faster = rounds.ratio("int8", name, rng)
            rows.append(
                {
                    "name": name,
                    "test_accuracy": accuracies[name],
                    "latency_ms": rounds.latency(name).median_ms,
                    "disturbed": faster.disturbed,
                    "faster": [faster.value, faster.low, faster.high],
                    "size_bytes": path.stat().st_size,
                    "smaller": files["int8"].stat().st_size / path.stat().st_size,
                }
            )
        return {"models": rows}

    def _strategies(self, session: RunSession) -> dict[str, float]:
        """Hypervolume of joint, sequential and policy-only search over that of all together.

        Counted is what is better than the INT8 reference, above the constraint's accuracy. A part
        of the space may keep no other constraint, so they apply to none of the searches.
        """
        experiment, space = self.experiment, session.builder.space
        full = space.decode(space.largest())
        kept = [
            text for text in experiment.constraints if parse_constraint(text).metric == "accuracy"
        ]
        free = experiment.model_copy(update={"constraints": kept})
        half, places = STRATEGY_EVALUATIONS // 2, self.folder / "strategies"

        def found(name: str, space: SearchSpace, evaluations: int) -> list[Evaluation]:
            free_session = replace(session, experiment=free)
            folder = RunFolder(places / name)
            return searched(explore(free_session, folder, space, evaluations))

        joint = found("joint", space, STRATEGY_EVALUATIONS)
        policies, architectures = (fixed(space, full, precisions=p) for p in (True, False))
        policy_only = found("policy-only", policies, STRATEGY_EVALUATIONS)
        first = found("architecture", architectures, half)
        known = session.ledger.evaluations()
        box = bound(free, known, PLAIN)
        alone = [hypervolume(row[None], box) for row in costs_of(first, experiment)]
        best = first[int(np.argmax(alone))]
        chosen = fixed(space, dict(best.candidate.values), precisions=True)
        second = found("policy", chosen, half)
        costs = {
            "joint": costs_of(joint, experiment),
            "architecture, then policy": costs_of([*first, *second], experiment),
            "policy only": costs_of(policy_only, experiment),
        }
        box = bound(free, known, low_reference(session.references))
        whole = hypervolume(np.concatenate(list(costs.values())), box)
        write_json(
            self.folder / "fronts.json",
            {name: values[front(values)].tolist() for name, values in costs.items()},
        )
        return {name: hypervolume(values, box) / whole for name, values in costs.items()}


def explore(
    session: RunSession,
    folder: RunFolder,
    space: SearchSpace,
    evaluations: int,
    evaluator: Evaluator | None = None,
) -> list[Evaluation]:
    """Search a space of the same network with the default strategy, continuing what is there;
    references are among what is measured. evaluator: who measures instead of the session's."""
    folder.path.mkdir(parents=True, exist_ok=True)
    experiment = session.experiment
    ledger = open_ledger(experiment, folder, space)
    part = replace(session, ledger=ledger, builder=replace(session.builder, space=space))
    settings = experiment.search.model_copy(update={"evaluations": evaluations})
    loop = SearchLoop(
        experiment.model_copy(update={"search": settings}),
        ledger,
        InProcess(evaluator or session.evaluator),
        session.reporter,
    )
    ledger.recover()
    loop.search(part.problem(loop.measure_references(session.references)))
    return ledger.evaluations()


def bound(experiment: Experiment, evaluations: Sequence[Evaluation], reference: str) -> FloatArray:
    """Costs of a reference, with what the constraints allow in place of its own values."""
    references = measured_references(evaluations)
    limits = {c.metric: c.bound for c in resolved_constraints(experiment, references)}
    row = references[reference]
    (costs,) = costs_of([replace(row, metrics={**row.metrics, **limits})], experiment)
    return np.asarray(costs)


def fixed(space: SearchSpace, values: dict[str, Choice], *, precisions: bool) -> SearchSpace:
    """The part of a space that varies precisions alone, or architectures in FP32 alone."""
    genes = []
    for gene in space.genes:
        is_precision = gene.kind == "precision"
        if is_precision and not precisions:
            gene = replace(gene, choices=gene.choices[-1:])
        elif not is_precision and precisions:
            gene = replace(gene, choices=(values.get(gene.name, gene.choices[0]),))
        genes.append(gene)
    return SearchSpace(tuple(genes))


def export(network: SuperNetwork, path: Path) -> None:
    """The full network by torch's exporter."""
    network.activate({})
    model = export_anew(network.deploy(), network, path)
    for part in (*model.graph.node, *model.graph.initializer, *model.graph.input):
        part.ClearField("metadata_props")  # so that sizes are those of weights, not of notes
    onnx.save(model, path)


class TrainingSamples(CalibrationDataReader):  # type: ignore[misc] # onnxruntime has no types
    """Training samples for ONNX Runtime's calibration."""

    def __init__(self, split: Split) -> None:
        self._feeds: Iterator[dict[str, Any]] = (
            {name: tensor.numpy() for name, tensor in batch.inputs.items()}
            for batch in calibration_batches(split)
        )

    def get_next(self) -> dict[str, Any] | None:
        """The next batch, None at the end."""
        return next(self._feeds, None)


def quantize_convolutions(path: Path, quantized: Path, split: Split) -> None:
    """Static QDQ, per-channel weights, as ONNX Runtime's documentation advises for CPUs."""
    prepared = quantized.with_suffix(".prepared.onnx")
    quant_pre_process(path, prepared, skip_symbolic_shape=True)
    quantize_static(
        prepared,
        quantized,
        TrainingSamples(split),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    prepared.unlink()


def commit() -> str:
    """The commit of this checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def share_start(first: Path, own: Path) -> None:
    """Let a trial start from the weights that the first one trained, so that seeds share them."""
    if (first / WEIGHTS_FILE).exists() and not own.exists():
        shutil.copytree(first, own.with_suffix(".part"), dirs_exist_ok=True)
        own.with_suffix(".part").rename(own)


def run(
    task: str, data: str, checkpoint: str | None, out: Path, seeds: Sequence[int], strategies: bool
) -> None:
    """Run one task under these seeds; what is there already is not computed again."""
    for seed in seeds:
        folder = out / task / f"seed-{seed}"
        result = folder / "result.json"
        if result.exists() and (read_json(result)["strategies"] or not strategies):
            continue
        overrides = [f"seed={seed}", f"data.name={data}"]
        overrides += [f"model.checkpoint={checkpoint}"] if checkpoint else []
        experiment = load_experiment(TASKS / f"{task}.yaml", overrides)
        task_data = load_data(experiment.data, experiment.model, experiment.task)
        folder.mkdir(parents=True, exist_ok=True)
        with rich_reporter(Console()) as reporter:
            trial = Trial(experiment, folder, task_data, reporter)
            first = replace(trial, folder=out / task / "seed-0")
            share_start(first.run.trained, trial.run.trained)
            write_json(result, trial.result(strategies))


def keep_results(out: Path) -> None:
    """Take the results of `run` over into this repository, in place of older ones.

    With what the search gave each half of networks that have two, as the run's front says.
    """
    for path in out.glob("*/*/result.json"):
        result, found = read_json(path), read_front(RunFolder(path.parent / "run"))
        if found is not None and (rows := halves(found)):
            result["halves"] = rows
        write_json(RESULTS / f"{result['task']}-{result['seed']}.json", result)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run")
    running.add_argument("task", choices=sorted(path.stem for path in TASKS.glob("*.yaml")))
    running.add_argument("--data", required=True, help="folder or name of the data set")
    running.add_argument("--checkpoint", help="folder or name of the checkpoint")
    running.add_argument("--out", type=Path, required=True)
    running.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    running.add_argument("--strategies", action="store_true")
    commands.add_parser("table").add_argument("--out", type=Path)
    arguments = parser.parse_args()
    if arguments.command == "run":
        given = vars(arguments)
        del given["command"]
        run(**given)
    else:
        if arguments.out is not None:
            keep_results(arguments.out)
        write_tables([read_json(path) for path in sorted(RESULTS.glob("*.json"))], TASKS)


if __name__ == "__main__":
    main()
