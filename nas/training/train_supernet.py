"""From a checkpoint to a tuned super-network, continuing whatever a run folder holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path

import torch
from safetensors import SafetensorError

from nas.experiment.schema import Experiment
from nas.run.interrupts import Stopped
from nas.run.pace import Pace
from nas.run.progress import Reporter, Stage
from nas.run.run_folder import RunFolder, RunFolderError, read_json
from nas.training.training_checkpoints import KEPT, Checkpoints
from supernets.data.data import TaskData
from supernets.families.super_network import SPACE_FILE, WEIGHTS_FILE, SuperNetwork
from supernets.layers.batch_norm import needs_two_samples
from supernets.load import load_saved, load_supernet, order_pieces
from supernets.settings import TrainSettings, TuneSettings
from supernets.space.space import SearchSpace
from supernets.training.distributed import Ranks
from supernets.training.order_by_importance import order_by_importance
from supernets.training.train import Trainer, score, training_device
from supernets.training.tune import InstaTuner

ROOM = (KEPT + 1) * 3 + 3
"""Times the weights' bytes that training writes: checkpoints with the optimizer's two moments, one
of them under way; the network before and after, and the template."""


@dataclass(frozen=True)
class Preparation:
    """The stages that end in `supernet/`.

    find: what to tune a network by, whose units are in order; None: as the experiment says.
    """

    experiment: Experiment
    data: TaskData
    folder: RunFolder
    reporter: Reporter
    ranks: Ranks = field(default_factory=Ranks.of_environment)
    pace: Pace = field(default_factory=Pace)
    find: Callable[[SuperNetwork], TuneSettings] | None = None

    def supernet(self) -> tuple[SuperNetwork, SearchSpace]:
        """The tuned super-network and its space, read back if they are there."""
        folder = self.folder.supernet
        self.tune()
        return read_network(folder), SearchSpace.from_json(read_json(folder / SPACE_FILE))

    def tune(self) -> None:
        """Make `supernet/` unless it is there.

        Under torchrun every process calls this and sees the same run folder; the leading one alone
        writes there.
        """
        settings, seed = self.experiment.tune, self.experiment.seed
        self.ranks.join(training_device(settings.device))
        if not self._agreed(self.folder.supernet):
            network = self._start()
            self._order(network)
            space = network.space(self.experiment.space)
            order_pieces(network, space, self.data)
            scheme = self.experiment.quantization
            split = self.data.train
            if self.find is not None:
                settings = self.find(network)
            tuner = InstaTuner(network, space, split, settings, seed, scheme, self.ranks)
            self._train(tuner, "tuning", self.folder.supernet, space)
        self.ranks.leave()

    def _agreed(self, folder: Path) -> bool:
        """Whether the leading process finds a saved network, so that all do the same."""
        there = (folder / WEIGHTS_FILE).exists()
        return bool(self.ranks.agree(there, training_device(self.experiment.tune.device)))

    def _start(self) -> SuperNetwork:
        """The network to tune: from a checkpoint, or trained here first."""
        experiment, trained = self.experiment, self.folder.trained
        if self._agreed(trained):
            return read_network(trained)
        start = load_supernet(experiment.model, self.data, experiment.seed)
        for note in start.notes:
            self.reporter.say(note)
        network = start.network
        check_batches(network, len(self.data.train), experiment)
        settings = experiment.model.training
        if settings is None and experiment.model.checkpoint is None:
            settings = TrainSettings()
        if settings is not None:
            trainer = Trainer(network, self.data.train, settings, experiment.seed, self.ranks)
            self._train(trainer, "training", trained, network.space(experiment.space))
        return network

    def _order(self, network: SuperNetwork) -> None:
        settings, train = self.experiment.tune, self.data.train
        device = training_device(settings.device)
        generator = torch.Generator().manual_seed(self.experiment.seed)
        batches = train.batches(settings.batch_size, generator=generator, device=device)
        batches = islice(batches, settings.importance_batches)
        order_by_importance(network.to(device), batches, train.task)

    def _train(self, trainer: Trainer, name: str, folder: Path, space: SearchSpace) -> None:
        """Train to the end, from the newest checkpoint if there is one, and save to `folder`."""
        if not self.ranks.leads:
            trainer.run()
            return
        left_s, room = partial(self.pace.left_s, name), self.pace.room.get(name, 1.0)
        with resumable(trainer, name, self.folder, self.reporter, left_s, room):
            network = trainer.network.to(training_device(trainer.settings.device))
            metric = self.experiment.quality
            reached = score(network, self.data.validation, metric)
            self.reporter.say(f"after {name}: {metric.name} {reached:.4f} on validation")
            network.cpu().save(folder, space)


def check_batches(network: SuperNetwork, samples: int, experiment: Experiment) -> None:
    """Raise ValueError if the network would be trained on one sample and cannot be."""
    phases = {
        "model.training": experiment.model.training,
        "tune": experiment.tune,
        "polish": experiment.polish,
    }
    alone = [name for name, phase in phases.items() if phase is not None and phase.batch_size == 1]
    if not (alone or samples == 1) or not needs_two_samples(network, network.example_inputs(1)):
        return
    where = f"{alone[0]}.batch_size: 1" if alone else "data: one training sample"
    raise ValueError(
        f"{where}, but at this image size BatchNorm sees one pixel per channel and needs two "
        "samples at a time; give more of them, or a larger data.image_size"
    )


@contextmanager
def resumable(
    trainer: Trainer,
    name: str,
    folder: RunFolder,
    reporter: Reporter,
    left_s: Callable[[], float] | None = None,
    room: float = 1.0,
) -> Iterator[None]:
    """Train to the end, from the newest checkpoint of this name if there is one.

    left_s: seconds in which it has to end; the schedule is then cut to what fits, or drawn out to
    it, up to room times what was planned.
    The checkpoints go when the body, which keeps the trained network, has ended.
    """
    folder.require_room(ROOM * trainer.network.weight_bytes, name)
    checkpoints = Checkpoints(folder.supernet / f"{name}-checkpoints")
    for path in checkpoints.restore(trainer):
        reporter.say(f"{path} is damaged; continuing from the checkpoint before it")
    planned = trainer.total_steps
    try:
        trainer.run(_progress(reporter.stage(name)), checkpoints, left_s, room)
    except Stopped:
        checkpoints.write(trainer)
        raise
    if trainer.total_steps != planned:
        steps = f"{trainer.total_steps:,} steps fitted into its time"
        reporter.say(f"{name}: {steps}, {planned:,} were planned")
    yield
    checkpoints.clear()


def read_network(folder: Path) -> SuperNetwork:
    """A saved network. Raises RunFolderError naming the folder when it is damaged."""
    try:
        return load_saved(folder)
    except (SafetensorError, ValueError, KeyError) as error:
        raise RunFolderError(
            f"{folder}: damaged ({error}); delete {folder / WEIGHTS_FILE} and run the same command "
            "again: the same seed gives the same network, and what was measured stays"
        ) from None


def _progress(stage: Stage) -> Callable[[int, int, Mapping[str, float]], None]:
    def show(step: int, total: int, losses: Mapping[str, float]) -> None:
        stage.update(step, total, ", ".join(f"{name} {loss:.3f}" for name, loss in losses.items()))

    return show
