"""What rounding few-bit weights with error feedback is worth: sub-networks of a run, no training.

    python benchmarks/rounding.py RUN [--part trained] [--samples 400] [--own]

RUN is a run folder. Its full network, one drawn at random and the smallest, wholly in each format:
accuracy on validation, and the mean squared error of the logits relative to FP32's, with every
weight at its nearest level and with feedback; seconds of processor time to build the candidate for
the first time, and again. `--own` adds feedback by what the layers of the sub-network itself read.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hardware.formats.format import Format
from hardware.formats.fp32 import FP32
from hardware.formats.int2 import INT2
from hardware.formats.int3 import INT3
from hardware.formats.int4 import INT4
from nas.evaluation.candidate import Candidate
from nas.evaluation.candidate_builder import CandidateBuilder, template_of
from nas.evaluation.error_feedback import ErrorFeedback
from nas.run.run_folder import RunFolder
from nas.run.saved_experiment import read_experiment
from nas.run_session import candidate_builder
from nas.training.train_supernet import read_network
from supernets.data.data import Split
from supernets.load import load_data

FORMATS = (INT4, INT3, INT2)


@dataclass(frozen=True)
class Study:
    """A run's candidates, judged in fake quantization on some samples."""

    builder: CandidateBuilder
    split: Split

    @classmethod
    def of(cls, run: Path, part: str, samples: int) -> Study:
        """From a run folder; part: a folder of its super-network, of another state of it."""
        experiment = read_experiment(RunFolder(run))
        data = load_data(experiment.data, experiment.model, experiment.task)
        network = read_network(run / "supernet" / part)
        space = network.space(experiment.space)
        builder = candidate_builder(experiment, data, network, space, template_of(network, space))
        scheme = builder.scheme.with_linear("dynamic").with_int4_kernel("w4a8")
        split = data.validation.part(torch.arange(min(samples, len(data.validation))))
        return cls(replace(builder, scheme=scheme, feedback=None), split)

    @torch.inference_mode()
    def answers(self, network: nn.Module, candidate: Candidate) -> tuple[Tensor, Tensor]:
        """Logits and labels."""
        texts = "attention_mask" in self.builder.supernet.dynamic_axes
        together = self.builder.target.batch_size if texts else 128
        batches = list(self.split.seen_by(dict(candidate.architecture)).batches(together))
        logits = [network(**self.builder.adapted(candidate, b.inputs)) for b in batches]
        return torch.cat(logits), torch.cat([batch.labels for batch in batches])

    def candidates(self) -> Iterator[tuple[str, Candidate]]:
        """Sub-networks by what they are."""
        space = self.builder.space
        genomes = {
            "full": space.largest(),
            "random": space.sample(1, np.random.default_rng(0))[0],
            "smallest": space.smallest(),
        }
        for name, genome in genomes.items():
            yield name, self.builder.uniform(genome, FP32)

    def row(self, candidate: Candidate, feedback: ErrorFeedback | None) -> tuple[str, ...]:
        """Accuracy, error of the logits, seconds to build it first and again."""
        builder, seconds = replace(self.builder, feedback=feedback), []
        for _ in range(2):
            started = time.process_time()
            network = builder.imitation(candidate, self.builder.target.batch_size)
            seconds.append(time.process_time() - started)
        exact, _ = self.answers(self.builder.network(candidate), candidate)
        logits, labels = self.answers(network, candidate)
        accuracy = float((logits.argmax(1) == labels).float().mean())
        error = float((logits - exact).square().mean() / exact.square().mean())
        return f"{accuracy:.4f}", f"{error:.4f}", *(f"{x:.2f}" for x in seconds)


def rows(study: Study, own: bool) -> Iterator[tuple[str, ...]]:
    """Every sub-network in every format, rounded in every way."""
    network, calibration = study.builder.supernet, study.builder.calibration
    feedback = ErrorFeedback(network, calibration)
    for name, plain in study.candidates():
        yield name, "fp32", "", *study.row(plain, None)
        precision: Format
        for precision in FORMATS:
            candidate = plain.with_precision(precision)
            ways: dict[str, ErrorFeedback | None] = {"nearest": None, "feedback": feedback}
            if own and name != "full":
                listened = dict(candidate.architecture)
                ways["its own inputs"] = ErrorFeedback(network, calibration, listened)
            for way, how in ways.items():
                yield name, str(precision), way, *study.row(candidate, how)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--part", default="")
    parser.add_argument("--samples", type=int, default=10**9)
    parser.add_argument("--own", action="store_true")
    given = parser.parse_args()
    titles = ("network", "format", "rounded", "accuracy", "error", "built first, s", "again, s")
    table = Table(*titles)
    for row in rows(Study.of(given.run, given.part, given.samples), given.own):
        table.add_row(*row)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
