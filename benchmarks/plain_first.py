"""What plain steps before the tuning are worth to a checkpoint whose classifier is new.

    python -m benchmarks.plain_first CHECKPOINT DATA [--train 4000] [--split 0:126 126:84:frozen]

Each split of a training, PLAIN:TUNING steps, starts from the checkpoint anew; with `frozen` the
network as it was trained plainly teaches the tuning. Printed: accuracy on validation after the
plain steps, then of the full network, the one in the middle of the space and six random ones (the
same for all), in FP32; and what the splits took of the processor.
"""

from __future__ import annotations

import argparse
import time
from itertools import islice
from typing import NamedTuple, Self

import numpy as np
import torch

from supernets.data.data import Split, TaskData
from supernets.families.super_network import SuperNetwork
from supernets.load import load_data, load_supernet
from supernets.metrics.classes import ACCURACY
from supernets.model_settings import ModelSettings
from supernets.settings import DataSettings, SpaceSettings, TrainSettings, TuneSettings
from supernets.space.space import Architecture
from supernets.tasks.predictions import Predictions
from supernets.training.order_by_importance import order_by_importance
from supernets.training.train import Trainer
from supernets.training.tune import InstaTuner

RANDOM = 6
RATE = TrainSettings(
    epochs=1,
    learning_rate=2e-4,
    relative_rates=True,
    weight_decay=0.01,
    precision="bf16",
    device="cpu",
)
"""As the recipe derives it for MiniLM."""


class Parts(NamedTuple):
    """Steps of both trainings, and whether the first one's network teaches in the second."""

    plain: int
    tuning: int
    frozen: bool

    @classmethod
    def read(cls, text: str) -> Self:
        """From PLAIN:TUNING or PLAIN:TUNING:frozen."""
        plain, tuning, *teacher = text.split(":")
        return cls(int(plain), int(tuning), teacher == ["frozen"])


@torch.inference_mode()
def accuracy(network: SuperNetwork, split: Split, architecture: Architecture) -> float:
    """Of a sub-network."""
    network.eval().activate(architecture)
    found = Predictions(split.task)
    for batch in split.batches(256):
        own = split.rewritten(batch, architecture)
        outputs = network(**network.adapt_inputs(own.inputs)).float()
        found.add(outputs.numpy(), batch.labels.numpy())
    network.activate({})
    return found.score(ACCURACY)


def steps(trainer: Trainer, number: int) -> None:
    """Train for so many steps, with a schedule that ends there."""
    if number:
        trainer.total_steps = number
        trainer.run()


def trained(model: ModelSettings, data: TaskData, parts: Parts) -> list[float]:
    """Accuracies on validation after both trainings: see above."""
    torch.manual_seed(0)
    network, split = load_supernet(model, data, 0).network, data.train
    steps(Trainer(network, split, RATE, 0), parts.plain)
    found = [accuracy(network, data.validation, {})]
    batches = split.batches(RATE.batch_size, generator=torch.Generator().manual_seed(0))
    order_by_importance(network, islice(batches, 16), split.task)
    space = network.space(SpaceSettings())
    settings = TuneSettings(**RATE.model_dump(), teacher=parts.frozen)
    steps(InstaTuner(network, space, split, settings, 0), parts.tuning)
    genomes = [space.largest(), space.middle(), *space.sample(RANDOM, np.random.default_rng(7))]
    found += [accuracy(network, data.validation, space.split(genome)[0]) for genome in genomes]
    return [*found[:3], float(np.mean(found[3:]))]


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint")
    parser.add_argument("data")
    parser.add_argument("--train", type=int, default=4000, help="training samples")
    parser.add_argument("--split", nargs="+", default=["0:126", "126:84", "126:84:frozen"])
    given = parser.parse_args()
    model = ModelSettings(checkpoint=given.checkpoint)
    data = load_data(DataSettings(name=given.data, max_train=given.train), model)
    print("| plain | tuning | frozen teacher | after plain | full | middle | six | s |")
    print("|---|---|---|---|---|---|---|---|")
    for parts in map(Parts.read, given.split):
        started = time.process_time()
        shown = " | ".join(f"{100 * value:.1f} %" for value in trained(model, data, parts))
        teacher = "yes" if parts.frozen else "no"
        spent = time.process_time() - started
        print(f"| {parts.plain} | {parts.tuning} | {teacher} | {shown} | {spent:.0f} |", flush=True)


if __name__ == "__main__":
    main()
