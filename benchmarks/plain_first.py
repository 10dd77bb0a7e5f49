"""What plain steps before the tuning are worth to a checkpoint whose classifier is new.

    python -m benchmarks.plain_first CHECKPOINT DATA [--train 4000] [--split 0:126 126:84:frozen]
    python -m benchmarks.plain_first vit digits --seeds 2 --split 100:32 100:32:frozen

Each split of a training, PLAIN:TUNING steps, starts from the checkpoint anew, or from random
weights of the default network of a family; with `frozen` the network as it was trained plainly
teaches the tuning. Printed: accuracy on validation after the plain steps, then of the full network,
the one in the middle of the space and six random ones (the same for all), in FP32, means over the
seeds; and what the splits took of the processor.
"""

from __future__ import annotations

import argparse
import time
from itertools import islice
from typing import NamedTuple, Self

import numpy as np
import torch

from supernets.data.data import Split, TaskData
from supernets.families.bert.config import BertConfig
from supernets.families.resnet.config import ResNetConfig
from supernets.families.super_network import SuperNetwork
from supernets.families.vit.config import VitConfig
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
FROM_SCRATCH = TrainSettings(epochs=1, learning_rate=1e-3, batch_size=64, device="cpu")
FAMILIES = {"vit": VitConfig, "resnet": ResNetConfig, "bert": BertConfig}


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


def trained(model: ModelSettings, data: TaskData, parts: Parts, seed: int) -> list[float]:
    """Accuracies on validation after both trainings: see above."""
    torch.manual_seed(seed)
    rate = FROM_SCRATCH if model.checkpoint is None else RATE
    network, split = load_supernet(model, data, seed).network, data.train
    steps(Trainer(network, split, rate, seed), parts.plain)
    found = [accuracy(network, data.validation, {})]
    batches = split.batches(rate.batch_size, generator=torch.Generator().manual_seed(0))
    order_by_importance(network, islice(batches, 16), split.task)
    space = network.space(SpaceSettings())
    settings = TuneSettings(**rate.model_dump(), teacher=parts.frozen)
    steps(InstaTuner(network, space, split, settings, seed), parts.tuning)
    genomes = [space.largest(), space.middle(), *space.sample(RANDOM, np.random.default_rng(7))]
    found += [accuracy(network, data.validation, space.split(genome)[0]) for genome in genomes]
    return [*found[:3], float(np.mean(found[3:]))]


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint")
    parser.add_argument("data")
    parser.add_argument("--train", type=int, default=4000, help="training samples")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--split", nargs="+", default=["0:126", "126:84", "126:84:frozen"])
    given = parser.parse_args()
    model = ModelSettings(checkpoint=given.checkpoint)
    if (family := FAMILIES.get(given.checkpoint)) is not None:
        model = ModelSettings.from_scratch(family())
    data = load_data(DataSettings(name=given.data, max_train=given.train), model)
    print("| plain | tuning | frozen teacher | after plain | full | middle | six | s |")
    print("|---|---|---|---|---|---|---|---|")
    for parts in map(Parts.read, given.split):
        started = time.process_time()
        found = np.mean([trained(model, data, parts, seed) for seed in range(given.seeds)], axis=0)
        shown = " | ".join(f"{100 * value:.1f} %" for value in found)
        teacher = "yes" if parts.frozen else "no"
        spent = time.process_time() - started
        print(f"| {parts.plain} | {parts.tuning} | {teacher} | {shown} | {spent:.0f} |", flush=True)


if __name__ == "__main__":
    main()
