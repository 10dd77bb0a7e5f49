"""Training in several processes, in parts of a batch, and in bfloat16, beside plain training."""

from __future__ import annotations

import multiprocessing
import socket
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from nas.experiment.load import load_experiment
from nas.ledger.study import read_evaluations
from nas.run.run_folder import RunFolder
from supernets.data.data import Batch
from supernets.families.resnet.config import ResNetConfig
from supernets.families.vit.config import VitConfig
from supernets.load import load_data, load_supernet
from supernets.model_settings import ModelSettings
from supernets.settings import DataSettings, SpaceSettings, TuneSettings
from supernets.training.distributed import Ranks
from supernets.training.tune import InstaTuner
from tests.faults.victim import FORKED

STEPS = 4
MODEL = ModelSettings.from_scratch(
    VitConfig(image_size=16, patch_size=8, embed_dim=16, depth=2, num_heads=2, hidden_dim=16)
)
RESNET = ModelSettings.from_scratch(
    ResNetConfig(
        image_size=16, block="basic", stem_width=4, depths=[1], stage_widths=[4], inner_widths=[4]
    )
)
Losses = list[dict[str, float]]
TUNE = TuneSettings(epochs=1, batch_size=301, device="cpu")


def losses(
    ranks: Ranks, weights_seed: int = 0, model: ModelSettings = MODEL, **settings: object
) -> Losses:
    """Losses of the first steps of InstaTune."""
    torch.set_num_threads(1)
    data = load_data(DataSettings(name="digits", image_size=16), model)
    network = load_supernet(model, data, seed=weights_seed).network
    space = network.space(SpaceSettings())
    tune = TUNE.model_copy(update=settings)
    tuner = InstaTuner(network, space, data.train, tune, seed=5, ranks=ranks)
    found: Losses = []
    tuner.total_steps = STEPS
    tuner.run(progress=lambda step, total, now: found.append(dict(now)))
    ranks.leave()
    return found


@pytest.fixture(scope="module")
def plain() -> Losses:
    return losses(Ranks())


def assert_close(found: Losses, expected: Losses) -> None:
    assert [loss.keys() for loss in found] == [loss.keys() for loss in expected]
    for now, then in zip(found, expected, strict=True):
        assert list(now.values()) == pytest.approx(list(then.values()), abs=1e-5)


def one_of_two(
    rank: int, ports: list[int], found: multiprocessing.Queue[tuple[int, list[Losses]]]
) -> None:
    import os

    os.environ |= {"MASTER_ADDR": "127.0.0.1", "RANK": str(rank), "WORLD_SIZE": "2"}
    told = []
    for port, model in zip(ports, (MODEL, RESNET), strict=True):
        os.environ["MASTER_PORT"] = str(port)
        # Other weights at first: everybody starts from the leading process's.
        told.append(losses(Ranks.of_environment(), weights_seed=rank, model=model))
    found.put((rank, told))


@pytest.fixture(scope="module")
def in_two_processes() -> list[list[Losses]]:
    """What each of two processes tells of training the ViT and the ResNet."""
    with socket.socket() as first, socket.socket() as second:
        for probe in (first, second):
            probe.bind(("127.0.0.1", 0))
        ports = [probe.getsockname()[1] for probe in (first, second)]
    found = FORKED.Queue()
    processes = [FORKED.Process(target=one_of_two, args=(rank, ports, found)) for rank in (0, 1)]
    for process in processes:
        process.start()
    results = dict(found.get(timeout=240) for _ in processes)
    for process in processes:
        process.join(30)
        assert process.exitcode == 0
    return [results[rank] for rank in (0, 1)]


def test_two_processes_train_as_one(plain: Losses, in_two_processes: list[list[Losses]]) -> None:
    (leading, _), (other, _) = in_two_processes
    assert_close(leading, plain)
    assert leading == other


def test_processes_train_a_resnet_alike(
    in_two_processes: list[list[Losses]],
) -> None:
    """Each with the statistics of its own part, so not as one process does."""
    (_, leading), (_, other) = in_two_processes
    assert leading == other
    assert all(loss == loss for losses in leading for loss in losses.values())


def test_parts_of_a_batch_add_up_to_it(plain: Losses) -> None:
    assert_close(losses(Ranks(), accumulate=3), plain)


def test_bfloat16_stays_near(plain: Losses) -> None:
    found = losses(Ranks(), precision="bf16")
    assert found != plain
    for now, then in zip(found, plain, strict=True):
        assert list(now.values()) == pytest.approx(list(then.values()), abs=0.05)


def test_parts_hold_every_sample_once() -> None:
    batch = Batch({"x": torch.arange(10).reshape(5, 2)}, torch.arange(5), torch.arange(7, 12))
    parts = batch.parts(7)
    assert len(parts) == 7
    assert torch.equal(torch.cat([part.labels for part in parts]), batch.labels)
    assert torch.equal(torch.cat([part.rows for part in parts]), batch.rows)
    assert torch.equal(torch.cat([part.inputs["x"] for part in parts]), batch.inputs["x"])


LAUNCHERS = {
    "torchrun": ("torch.distributed.run", "--nproc-per-node", "2"),
    "accelerate": ("accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"),
}


def references(file: Path, out: Path, *launcher: str) -> list[float]:
    """Accuracies of the references after a whole run."""
    command = [sys.executable, *launcher, "-m", "cli", "run", str(file), "--out", str(out)]
    result = subprocess.run(command, text=True, capture_output=True)
    assert result.returncode == 0, result.stderr
    known = read_evaluations(load_experiment(file), RunFolder(out))
    return [e.metrics["accuracy"] for e in known if e.role == "reference"]


@pytest.mark.slow
@pytest.mark.parametrize("name", LAUNCHERS)
def test_a_launcher_does_a_whole_run(
    tmp_path: Path, experiment_file: Callable[..., Path], name: str
) -> None:
    """Accuracies are those of one process; single weights wander, as Adam enlarges rounding."""
    module, *options = LAUNCHERS[name]
    if find_spec(module.partition(".")[0]) is None:
        pytest.skip(f"{name} is not installed (pip install {name})")
    file = experiment_file()
    alone = references(file, tmp_path / "one")
    together = references(file, tmp_path / "two", "-m", module, *options)
    assert together == pytest.approx(alone, abs=0.01)
