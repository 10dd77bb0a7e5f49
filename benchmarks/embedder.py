"""A smaller embedder against ONNX Runtime's own INT8 of the checkpoint it comes from.

    python -m benchmarks.embedder --checkpoint FOLDER --data FOLDER --other FOLDER --out DIR

The whole pipeline on the texts of `--data`, as benchmarks/embedder.yaml says, continued where it
was stopped; then of every model: whether the nearest training text of a test text has its class
(nothing was trained on classes), the mean cosine to the checkpoint's own vectors on the same test
texts and on texts of `--other`, that nothing was learnt from, latency, and bytes. Rows are kept in
DIR/result.json. The baseline is the checkpoint, quantized by `quantize_dynamic(per_channel=True)`.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from onnxruntime.quantization import QuantType, quantize_dynamic
from rich.console import Console

from benchmarks.headline import commit, export
from hardware.files import replacing
from hardware.latency import run_times
from hardware.session import open_session
from nas.delivery.markdown import markdown_table
from nas.evaluation.baselines import PLAIN
from nas.evaluation.candidate import Candidate
from nas.evaluation.score_meter import RuntimeScore
from nas.experiment.load import load_experiment
from nas.experiment.schema import Experiment
from nas.pipeline import run
from nas.run.progress import Reporter, rich_reporter
from nas.run.run_folder import RunFolder, read_json, write_json
from nas.run.saved_experiment import read_experiment
from nas.run_session import RunSession
from supernets.data.data import Split, TaskData
from supernets.load import load_data, load_supernet
from supernets.metrics.embeddings import cosine, neighbour_accuracy, unit
from supernets.metrics.metric import Array

SETTINGS = Path(__file__).with_suffix(".yaml")
LATENCY_REPEATS = 300
ORIGINAL, BASELINE = "checkpoint, fp32", "checkpoint, INT8 of ONNX Runtime"
COLUMNS = (
    "model",
    "nearest training text",
    "nearest other test text",
    "cosine",
    "cosine, other texts",
    "ms",
    "faster",
    "kB",
    "smaller",
)


def nearest_accuracy(vectors: Array, classes: Array, known: Array, known_classes: Array) -> float:
    """Part of the vectors `(n, D)` whose nearest of the known ones `(m, D)` is of their class."""
    nearest = (unit(vectors) @ unit(known).T).argmax(axis=1)
    return float((known_classes[nearest] == classes).mean())


@dataclass(frozen=True)
class Comparison:
    """The files of one run beside the checkpoint's own."""

    experiment: Experiment
    folder: Path
    data: TaskData
    other: Split
    reporter: Reporter

    @cached_property
    def session(self) -> RunSession:
        """What was made in the run folder."""
        run_folder = RunFolder(self.folder / "run")
        experiment = read_experiment(run_folder)
        return RunSession.prepare(experiment, run_folder, self.data, self.reporter)

    def result(self) -> dict[str, Any]:
        """Everything the table shows."""
        front = run(self.experiment, RunFolder(self.folder / "run"), self.reporter)
        files, candidates = self._checkpoints(), dict[str, Candidate]()
        for model in front.front:
            name = f"ours, {model.name}"
            files[name] = self.folder / "run" / "models" / model.name / "model.onnx"
            candidates[name] = model.candidate
        conditions = {**self.session.builder.target.describe(), "commit": commit()}
        return {"models": self._rows(files, candidates), "conditions": conditions}

    def _checkpoints(self) -> dict[str, Path]:
        """The checkpoint in FP32, and as ONNX Runtime quantizes it."""
        plain, low = self.folder / "fp32.onnx", self.folder / "int8.onnx"
        if not low.exists():
            export(load_supernet(self.experiment.model, self.data, 0).network, plain)
            with replacing(low) as part:
                quantize_dynamic(plain, part, per_channel=True, weight_type=QuantType.QInt8)
        return {ORIGINAL: plain, BASELINE: low}

    def _rows(
        self, files: dict[str, Path], candidates: dict[str, Candidate]
    ) -> list[dict[str, Any]]:
        builder, whole = self.session.builder, self.session.references[PLAIN]
        sessions = {name: open_session(path, builder.target) for name, path in files.items()}
        served = {name: candidates.get(name, whole) for name in files}
        inputs = {name: builder.example(candidate) for name, candidate in served.items()}
        rounds = run_times(sessions, inputs, repeats=LATENCY_REPEATS)
        original = self._vectors(sessions[ORIGINAL], whole)
        rows = []
        for name, path in files.items():
            faster = rounds.ratio(BASELINE, name, np.random.default_rng(0))
            rows.append(
                {
                    "name": name,
                    **self._scores(self._vectors(sessions[name], served[name]), original),
                    "latency_ms": rounds.latency(name).median_ms,
                    "faster": [faster.value, faster.low, faster.high],
                    "disturbed": faster.disturbed,
                    "size_bytes": path.stat().st_size,
                    "smaller": files[BASELINE].stat().st_size / path.stat().st_size,
                }
            )
        return rows

    def _vectors(
        self, session: onnxruntime.InferenceSession, candidate: Candidate
    ) -> dict[str, Array]:
        """Vectors of every split, served one text at a time."""
        splits = {"train": self.data.train, "test": self.data.test, "other": self.other}
        meters = {name: RuntimeScore(self.session.builder, s) for name, s in splits.items()}
        return {
            name: np.asarray(meter.of_session(session, candidate).rows[0])
            for name, meter in meters.items()
        }

    def _scores(self, given: dict[str, Array], original: dict[str, Array]) -> dict[str, float]:
        train, test = (np.asarray(s.labels) for s in (self.data.train, self.data.test))
        return {
            "nearest_training": nearest_accuracy(given["test"], test, given["train"], train),
            "nearest_test": neighbour_accuracy(given["test"], test, ()),
            "cosine": cosine(given["test"], original["test"], ()),
            "cosine_other": cosine(given["other"], original["other"], ()),
        }


def table(rows: list[dict[str, Any]]) -> str:
    """Rows as Markdown."""
    lines = []
    for row in rows:
        value, low, high = row["faster"]
        marked = ", disturbed" if row["disturbed"] else ""
        cells = [
            row["name"],
            f"{row['nearest_training']:.2%}",
            f"{row['nearest_test']:.2%}",
            f"{row['cosine']:.4f}",
            f"{row['cosine_other']:.4f}",
            f"{row['latency_ms']:.3f}",
            f"{value:.2f}x ({low:.2f} to {high:.2f}{marked})",
            f"{row['size_bytes'] / 1000:,.0f}",
            f"{row['smaller']:.2f}x",
        ]
        lines.append(cells)
    return "\n".join(markdown_table(COLUMNS, lines))


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for option in ("--checkpoint", "--data", "--other"):
        parser.add_argument(option, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--set", action="append", default=[], help="key=value, as of simqnas run")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    kept = given.out / "result.json"
    if not kept.exists():
        places = [f"model.checkpoint={given.checkpoint}", f"data.name={given.data}"]
        experiment = load_experiment(SETTINGS, [*places, *given.set])
        data = load_data(experiment.data, experiment.model, experiment.task)
        few = experiment.data.model_copy(update={"name": given.other, "max_train": 1000})
        other = load_data(few, experiment.model, experiment.task).validation
        with rich_reporter(Console(stderr=True)) as reporter:
            comparison = Comparison(experiment, given.out, data, other, reporter)
            write_json(kept, comparison.result())
    print(table(read_json(kept)["models"]))


if __name__ == "__main__":
    main()
