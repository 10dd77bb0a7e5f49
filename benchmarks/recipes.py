"""What files of three lines reach, seed by seed, and how well their minutes were predicted.

    python -m benchmarks.recipes FILE... --out DIR [--seeds 3] [--set key=value]

A file names model and data, and may state a budget or an effort. Of every run: the recommended
model beside the network fully in low precision, on validation, which chose it, and on test, which
did not; the full network after tuning beside plain fine-tuning of equal epochs, on validation; and
minutes, planned (with a budget) and real. Rows are kept in DIR/recipes.json; what is there is not
run again. `benchmarks/headline.py` compares with ONNX Runtime's own INT8.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from rich.console import Console

from nas.delivery.markdown import markdown_table
from nas.experiment.load import load_experiment
from nas.experiment.schema import Experiment
from nas.pipeline import run
from nas.run.progress import rich_reporter
from nas.run.run_folder import RunFolder, read_json, write_json
from nas.run.saved_experiment import read_experiment
from nas.training.train_supernet import read_network
from supernets.load import load_data, load_supernet
from supernets.settings import TrainSettings
from supernets.training.train import Trainer, score

COLUMNS = ("run", "faster", "smaller", "validation", "test", "tuned - plain", "minutes (planned)")


def measured(experiment: Experiment, folder: RunFolder) -> dict[str, Any]:
    """Run one experiment to its end and compare what it recommends."""
    with rich_reporter(Console(stderr=True)) as reporter:
        front = run(experiment, folder, reporter)
    model, low = front.model(front.recommended), front.low
    reference, versus = front.model(low), model.versus.get(low)
    assert model.test_score is not None
    assert reference.test_score is not None
    pace = read_json(folder.pace)
    return {
        "model": model.name,
        "faster": 1.0 if versus is None else versus.latency_ratio,
        "smaller": 1.0 if versus is None else versus.size_ratio,
        "validation": model.validation_score - reference.validation_score,
        "test": model.test_score - reference.test_score,
        "tuned_minus_plain": tuned_minus_plain(read_experiment(folder), folder),
        "planned_s": pace["predicted_s"],
        "real_s": pace["real_s"],
    }


def tuned_minus_plain(experiment: Experiment, folder: RunFolder) -> float:
    """The tuned full network's score on validation, less that of plain fine-tuning as long."""
    data = load_data(experiment.data, experiment.model, experiment.task)
    start = folder.trained if experiment.model.training is not None else None
    network = (
        load_supernet(experiment.model, data, experiment.seed).network
        if start is None
        else read_network(start)
    )
    shared = set(TrainSettings.model_fields)
    settings = TrainSettings.model_validate(experiment.tune.model_dump(include=shared))
    Trainer(network, data.train, settings, experiment.seed).run()
    tuned = read_network(folder.supernet)
    metric, validation = experiment.quality, data.validation
    return score(tuned, validation, metric) - score(network, validation, metric)


def table(rows: dict[str, dict[str, Any]]) -> str:
    """Rows as Markdown; differences in points."""
    lines = []
    for name, row in rows.items():
        planned, real = sum(row["planned_s"].values()), sum(row["real_s"].values())
        points = [f"{100 * row[k]:+.2f}" for k in ("validation", "test", "tuned_minus_plain")]
        minutes = f"{real / 60:.1f}" + (f" ({planned / 60:.1f})" if planned else "")
        lines.append([name, f"{row['faster']:.2f}x", f"{row['smaller']:.2f}x", *points, minutes])
    return "\n".join(markdown_table(COLUMNS, lines))


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--set", action="append", default=[], help="key=value, as of simqnas run")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    kept = arguments.out / "recipes.json"
    rows: dict[str, dict[str, Any]] = read_json(kept) if kept.exists() else {}
    for file in arguments.files:
        for seed in range(arguments.seeds):
            name = f"{file.stem}-{seed}"
            if name not in rows:
                experiment = load_experiment(file, [*arguments.set, f"seed={seed}"])
                rows[name] = measured(experiment, RunFolder(arguments.out / name))
                write_json(kept, rows)
    print(table(rows))


if __name__ == "__main__":
    main()
