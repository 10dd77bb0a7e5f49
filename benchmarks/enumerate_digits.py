"""Measure every candidate of digits_small.yaml through the real pipeline, once.

    python -m benchmarks.enumerate_digits RUN_FOLDER [--minutes 30]

Continues where it stopped; when all candidates are measured it writes the table that the search
benchmark reads, benchmarks/digits_small.npz: canonical genomes; validation accuracy, latency in ms
relative to the FP32 reference measured beside it, file size in bytes.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
from rich.console import Console

from nas.evaluation.candidate import Candidate
from nas.experiment.load import load_experiment
from nas.run.progress import RichReporter, rich_reporter
from nas.run.run_folder import RunFolder
from nas.run_session import RunSession
from nas.search.problem import enumerate_space
from supernets.open_data import load_data

HERE = Path(__file__).parent
METRICS = ("accuracy", "latency_ms", "size_bytes")
SAVE_EVERY = 100


def enumerate_digits(folder: Path, deadline: float, table: Path, reporter: RichReporter) -> bool:
    """Measure until all is done or the deadline has passed; True when the table is written.

    The experiment is the file beside the table.
    """
    experiment = load_experiment(table.with_suffix(".yaml"))
    folder.mkdir(parents=True, exist_ok=True)
    data = load_data(experiment.data, experiment.model, experiment.task)
    session = RunSession.prepare(experiment, RunFolder(folder), data, reporter)
    genomes = enumerate_space(session.builder.space)
    assert genomes is not None
    order = np.random.default_rng(0).permutation(len(genomes))  # drift hits no region alone
    partial = folder / "enumerated.npy"
    values = np.load(partial) if partial.exists() else np.full((len(genomes), len(METRICS)), np.nan)
    stage = reporter.stage("enumerating")
    for done, row in enumerate(order):
        if np.isnan(values[row, 0]):
            if time.monotonic() > deadline:
                break
            candidate = Candidate.from_genome(session.builder.space, genomes[row])
            metrics, _ = session.evaluator(candidate)
            values[row] = [metrics[name] for name in METRICS]
        if done % SAVE_EVERY == 0:
            np.save(partial, values)
        stage.update(done + 1, len(genomes))
    np.save(partial, values)
    if np.isnan(values).any():
        return False
    np.savez_compressed(
        table,
        space=json.dumps(session.builder.space.to_json()),
        genomes=genomes.astype(np.int8),
        values=values.astype(np.float32),
    )
    return True


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="run folder for the tuned super-network")
    parser.add_argument("--minutes", type=float, default=60.0, help="stop after so long")
    arguments = parser.parse_args()
    deadline = time.monotonic() + 60 * arguments.minutes
    with rich_reporter(Console()) as reporter:
        finished = enumerate_digits(arguments.folder, deadline, HERE / "digits_small.npz", reporter)
    print("table written" if finished else "not finished; run the same command again")


if __name__ == "__main__":
    main()
